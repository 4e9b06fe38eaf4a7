"""The one exception of this folder."""


class DatasetError(ValueError):
    """A dataset, plan or ledger that cannot be used as it is; the message says the way out."""
