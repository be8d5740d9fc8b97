"""Optional packages: a missing one is an error that says how to install it."""

from importlib.util import find_spec

from convpose.errors import ConfigError


def require(extra: str, *packages: str) -> None:
    """Refuse to go on without the packages of an extra.

    Args:
        extra: of ``pip install 'convpose[EXTRA]'``.
        packages: top-level names, as they are imported.

    Raises:
        ConfigError: the first one that is not installed.
    """
    for package in packages:
        if find_spec(package) is None:
            raise ConfigError(f"{package} is not installed; type pip install 'convpose[{extra}]'")
