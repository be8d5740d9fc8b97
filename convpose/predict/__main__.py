"""Find people: ``convpose predict photo.jpg``, a folder, a clip, a webcam.

Writes keypoints and drawings to ``output``. Exit code 1 says that some inputs could not be read;
they are listed at the end, the others are done.
"""

if not __package__:  # started as a file: modules of its folder would hide others
    raise SystemExit("type python -m convpose.predict")

import os
import re
import sys
from collections.abc import Sequence

from omegaconf import DictConfig

from convpose.config.application import application
from convpose.config.arguments import TAKES_VALUE, in_quotes
from convpose.files import shown

PATHS = ("source", "run", "weights", "boxes", "output", "detector.weights")
# what Hydra understands: an option, ~key, +key=value, key=value; but ~/photo.jpg is a path
OVERRIDE = re.compile(r"-.+|~[^/].*|\+.+|[a-z][\w./@]*=.*", re.DOTALL)


@application("predict")
def main(cfg: DictConfig) -> None:
    """Predict, and print what was found, what to know and what failed."""
    from convpose.predict.command import predict  # imports torch, which --help does not wait for

    summary = predict(cfg)
    for note in summary.messages():
        print(f"note: {note}")
    if summary.frames:
        poses = "1 pose" if summary.people == 1 else f"{summary.people} poses"
        frames = "1 frame" if summary.frames == 1 else f"{summary.frames} frames"
        print(f"{poses} in {frames}; written to {shown(cfg.output)}")
    if summary.failures:
        listed = "\n".join(f"  {failure.message}" for failure in summary.failures)
        print(f"{len(summary.failures)} of {summary.inputs} failed:\n{listed}", file=sys.stderr)
        sys.exit(1)


def as_overrides(arguments: Sequence[str]) -> list[str]:
    """Turn a command line into Hydra's overrides: a path alone is the source.

    Raises:
        SystemExit: with 2 for a second source.
    """
    overrides: list[str] = []
    sources: list[str] = []
    before = ""
    for argument in arguments:
        there = os.path.exists(argument)  # noqa: PTH110, Path.exists raises for what is too long
        if before in TAKES_VALUE or (OVERRIDE.fullmatch(argument) and not there):
            overrides.append(quoted(argument))
        else:
            sources.append(argument)
        before = argument
    named = [o.removeprefix("source=") for o in overrides if o.startswith("source=")]
    if sources and len(named + sources) > 1:
        print(
            f"error: {(named + sources)[1]}: a second source; type one file, folder or URL, or a "
            "pattern in quotes: '*.jpg'",
            file=sys.stderr,
        )
        sys.exit(2)
    return overrides + [f"source={in_quotes(source)}" for source in sources]


def quoted(override: str) -> str:
    """Quote a path that Hydra's grammar would take apart, such as ``source=photo (1).jpg``.

    What is quoted already, null, a list, an interpolation or empty stays as it is.
    """
    key, _, value = override.partition("=")
    plain = value in ("", "null") or value[0] in "'\"$" or value[0] + value[-1] == "[]"
    if key not in PATHS or plain:
        return override
    return f"{key}={in_quotes(value)}"


if __name__ == "__main__":
    sys.argv[1:] = as_overrides(sys.argv[1:])
    main()
