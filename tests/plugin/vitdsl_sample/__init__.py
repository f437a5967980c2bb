"""A sample plugin: each module of it is one kind, and its entry point in `pyproject.toml` names it."""
