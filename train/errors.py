"""What a user of `train` can get wrong."""


class TrainError(ValueError):
    """A training config, RUN directory or machine that cannot be used; the message says why."""
