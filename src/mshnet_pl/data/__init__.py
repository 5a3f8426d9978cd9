"""Data sets, folds and episodes."""
