"""Reports: from records to tables and figures. No JAX here."""

from prune_jax.report.write import SECTIONS, check_sections, write

__all__ = ["SECTIONS", "check_sections", "write"]
