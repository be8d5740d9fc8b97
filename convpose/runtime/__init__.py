"""Call a trained network: in PyTorch, packaged, or as an exported file."""
