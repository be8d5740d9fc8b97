"""Heads: features to a dict with unit keypoints and scores."""
