"""What a kernel multiplies: its inputs, in any traceable network."""
