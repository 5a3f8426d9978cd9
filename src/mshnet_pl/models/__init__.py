"""Few-shot segmentation methods."""
