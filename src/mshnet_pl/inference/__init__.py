"""Prediction on images of one's own, and the refinements that tests share with it."""
