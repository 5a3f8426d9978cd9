"""The web page: a checkpoint in the browser."""
