"""What every section of a configuration shares: frozen, documented, no unknown keys."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Base of all configuration and manifest sections."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        validate_default=True,
        protected_namespaces=(),
    )
