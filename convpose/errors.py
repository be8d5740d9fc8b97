"""The errors that a user can cause: what is wrong, where, and what to type instead.

Applications print them as one message without a traceback and exit with code 2.
Everything else that is raised is a defect of convpose and keeps its traceback.
"""


class ConvposeError(Exception):
    """Base of all errors whose message is meant for the user."""


class ConfigError(ConvposeError):
    """A key or a combination of keys that cannot be run."""


class DataError(ConvposeError):
    """A file, archive, annotation or split that is not what it should be."""


class ModelError(ConvposeError):
    """Weights, a checkpoint or a network that does not fit."""
