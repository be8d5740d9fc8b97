"""Losses: (output, keypoints, visibility) to a scalar, masked.

A loss's attribute `needs` names what of the output it trains, see `convpose.models.heads`. A loss
may have parameters of its own; they are trained with the network's and are no part of it. Those
here derive from `keypoint.KeypointLoss` and say what each keypoint costs.
"""
