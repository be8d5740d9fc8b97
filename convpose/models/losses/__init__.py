"""Losses: (output, keypoints, visibility) to a scalar, masked."""
