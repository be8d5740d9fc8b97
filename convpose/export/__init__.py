"""Export a network to one file."""
