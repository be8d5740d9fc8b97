"""Pictures: skeletons, curves and tables."""
