"""A data set's folder put in order."""
