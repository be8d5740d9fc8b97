"""Find people in pictures and clips."""
