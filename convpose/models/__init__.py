"""Networks: image to features to output."""
