"""Parts of a user's own, named module:function in a config: how they are loaded, and own networks."""
