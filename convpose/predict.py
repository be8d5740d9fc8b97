"""Find people: ``python -m convpose.predict source=photo.jpg``, a folder, a clip, a webcam.

Writes keypoints and drawings to ``output``. Exit code 1 says that some inputs could not be read;
they are listed at the end, the others are done.
"""

import sys

from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig

from convpose.application import application

PATHS = ("source", "run", "weights", "boxes", "output", "detector.weights")


@application("predict")
def main(cfg: DictConfig) -> None:
    """Predict, and say what came of it."""
    from convpose.inference.command import predict

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


if __name__ == "__main__":
    sys.argv[1:] = map(quoted, sys.argv[1:])
    main()
