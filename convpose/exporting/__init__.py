"""A trained network as one file for another engine."""
