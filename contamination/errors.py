"""The one exception of this folder that is the user's to mend."""


class AuditError(ValueError):
    """A benchmark, a text or a setting cannot be used; the message says where and the way out."""
