"""What a jaxpr says about channels: labels, one rule per primitive, and the solution."""
