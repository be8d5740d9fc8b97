"""What `convpose.benchmark` measures."""
