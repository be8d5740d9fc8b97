"""Find people: ``convpose predict photo.jpg``, a folder, a clip, a webcam.

Writes keypoints and drawings to ``output``. Exit code 1 says that some inputs could not be read;
they are listed at the end, the others are done.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from convpose.config.application import application

PATHS = ("source", "run", "weights", "boxes", "output", "detector.weights")
# options of Hydra that are followed by a value
TAKES_VALUE = (
    *("--cfg", "-c", "--package", "-p", "--config-name", "-cn", "--config-path", "-cp"),
    *("--config-dir", "-cd", "--experimental-rerun"),
)


@application("predict")
def main(cfg: DictConfig) -> None:
    """Predict, and say what came of it."""
    from convpose.predict.command import predict

    summary = predict(cfg)
    for note in summary.notes:
        print(f"note: {note}")
    if summary.frames:
        people = "1 person" if summary.people == 1 else f"{summary.people} people"
        frames = "1 frame" if summary.frames == 1 else f"{summary.frames} frames"
        print(f"{people} in {frames}; written to {cfg.output}")
    if summary.failures:
        listed = "\n".join(f"  {failure.message}" for failure in summary.failures)
        print(f"{len(summary.failures)} of {summary.inputs} failed:\n{listed}", file=sys.stderr)
        sys.exit(1)


def quoted(argument: str) -> str:
    """A path that Hydra's grammar would take apart, as ``photo (1).jpg``, in the quotes it wants.

    Left as it is: what is quoted, null, a list, or plain.
    """
    key, equals, value = argument.partition("=")
    plain = not value or value == "null" or value[0] in "'\"$" or value[0] + value[-1] == "[]"
    if key not in PATHS or not equals or plain:
        return argument
    return f"{key}={QuotedString(value, Quote.single).with_quotes()}"


def as_overrides(arguments: Sequence[str]) -> list[str]:
    """Turn a command line into Hydra overrides: a path alone is the source.

    Raises:
        SystemExit: with 2 for a second path.
    """
    overrides: list[str] = []
    sources: list[str] = []
    for before, argument in zip(("", *arguments), arguments, strict=False):
        option = argument.startswith("-") and argument != "-"
        key = argument.partition("=")[0]
        named = "=" in argument and re.fullmatch(r"[~+\w./@]+", key) and not Path(argument).exists()
        if option or named or before in TAKES_VALUE or argument[0] in "~+":
            overrides.append(quoted(argument))
        else:
            sources.append(quoted(f"source={argument}"))
    if len(sources) > 1:
        print(
            f"error: {sources[1].partition('=')[2]}: a second source; type one file, folder or "
            "address, or a pattern in quotes: '*.jpg'",
            file=sys.stderr,
        )
        sys.exit(2)
    return overrides + sources


if __name__ == "__main__":
    sys.argv[1:] = as_overrides(sys.argv[1:])
    main()
