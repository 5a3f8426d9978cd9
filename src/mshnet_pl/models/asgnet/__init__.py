"""ASGNet (Li et al., CVPR 2021)."""
