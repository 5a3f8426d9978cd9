"""PPNet (Liu et al., ECCV 2020)."""
