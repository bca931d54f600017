"""The paper's experimental protocols, as values of a config."""
