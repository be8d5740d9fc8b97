"""Train, sweep, compare, evaluate and use networks that find 14 joints on Leeds Sports Pose."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from convpose.predict.predictor import PosePredictor

__version__ = "0.2.0"
__all__ = ["PosePredictor", "__version__"]


def __getattr__(name: str) -> Any:
    """Import `PosePredictor` on first use: the commands answer ``--help`` without torch."""
    if name == "PosePredictor":
        from convpose.predict.predictor import PosePredictor

        return PosePredictor
    raise AttributeError(f"module 'convpose' has no attribute {name!r}")
