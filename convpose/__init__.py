"""Train, sweep, compare, evaluate and use networks that find 14 joints on Leeds Sports Pose."""

__version__ = "0.1.0"
