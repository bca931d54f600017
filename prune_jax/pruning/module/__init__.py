"""Any model in, a smaller model out: ``prune`` and what it returns."""
