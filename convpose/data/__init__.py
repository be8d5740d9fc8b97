"""Data sets: reading, cropping, augmenting, caching, splitting."""
