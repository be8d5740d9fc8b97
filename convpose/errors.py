"""Define the errors that a user can cause. Each says what is wrong, where, and what to type.

Applications print them as one message without a traceback and exit with code 2.
Every other error is a defect of convpose and keeps its traceback.
"""

import contextlib
import os
import sys
from collections.abc import Iterator
from importlib.util import find_spec

SIGPIPE = 13  # which Python does not name on Windows


class ConvposeError(Exception):
    """Base of all errors whose message is meant for the user."""


class ConfigError(ConvposeError):
    """A key or a combination of keys that cannot be run."""


class DataError(ConvposeError):
    """A file, archive, annotation or split that is not what it should be."""


class ModelError(ConvposeError):
    """Weights, a checkpoint or a network that does not fit."""


def require_extra(extra: str, *packages: str) -> None:
    """Check that the packages of an extra are installed.

    Args:
        extra: of ``pip install 'convpose[EXTRA]'``.
        packages: top-level names, as they are imported.

    Raises:
        ConfigError: the first one that is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise ConfigError(f"{package} is not installed; type pip install 'convpose[{extra}]'")


@contextlib.contextmanager
def reader_may_leave() -> Iterator[None]:
    """End without a traceback when nobody reads the rest of the output, as in ``--help | head``."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush at the end
        sys.exit(128 + SIGPIPE)
