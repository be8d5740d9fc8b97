"""A trained network that can be called: in PyTorch, packaged, or as an exported file."""
