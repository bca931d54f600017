"""Reports: from records to tables and figures. No JAX here."""
