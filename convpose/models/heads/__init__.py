"""Heads: features to a dict with unit keypoints and scores.

A head's attribute `gives` names what of its output a loss may train through; the losses' `needs`
is held against it before a training starts. A head without the attribute gives its keypoints.
"""
