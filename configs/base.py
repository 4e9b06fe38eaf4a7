"""What every section of a configuration shares: frozen, documented, no unknown keys."""

from typing import Any, get_args

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


def sections(annotation: Any) -> list[type[BaseModel]]:
    """Types of ours that an annotation, or a tuple of them, names."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    parts = annotation if isinstance(annotation, tuple) else get_args(annotation)
    return [model for part in parts for model in sections(part)]
