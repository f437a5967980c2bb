"""A study with every name resolved."""
