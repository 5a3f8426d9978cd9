"""Time and memory of a network, measured: ``mshnet-bench``."""
