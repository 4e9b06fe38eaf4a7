"""The one exception of this folder."""


class BuildError(ValueError):
    """A dataset that cannot be built as asked; the message says the way out."""
