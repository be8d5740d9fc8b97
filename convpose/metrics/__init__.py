"""Pose metrics: pure functions and torchmetrics classes over them."""
