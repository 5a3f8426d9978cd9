"""Data sets: images and masks by name."""
