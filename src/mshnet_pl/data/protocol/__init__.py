"""Which classes and images make an episode; no pixels."""
