"""The one exception of this folder."""


class ConfigError(ValueError):
    """A configuration the user must mend; the message lists every mistake at once."""
