"""Networks whose widths are constructor arguments."""
