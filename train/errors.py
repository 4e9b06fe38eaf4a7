"""What a user of `train` can get wrong."""


class TrainError(ValueError):
    """A mistake in a training config, a RUN directory or the machine; printed without a traceback."""
