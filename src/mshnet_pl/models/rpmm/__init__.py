"""RPMM (Yang et al., ECCV 2020)."""
