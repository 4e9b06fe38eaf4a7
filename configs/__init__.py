"""A run's settings: their types (pydantic) and their values (YAML)."""
