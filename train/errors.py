"""What a user of `train` can get wrong."""


class TrainError(ValueError):
    """A training config, RUN directory or machine that cannot be used; the message says why."""


class OutOfMemoryError(TrainError):
    """Memory of a rank ran out; any rank may be the only one that says so."""
