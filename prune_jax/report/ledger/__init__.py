"""The ledger: any number of records as a static page with a table, where any two rows give their verdict."""
