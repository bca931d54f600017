"""The keys of a config, section by section: each with its default value and a comment that explains it."""
