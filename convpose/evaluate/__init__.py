"""Score runs and files of predictions."""
