"""Text sources in, a dataset of packed tokens out, as datatrove stages."""
