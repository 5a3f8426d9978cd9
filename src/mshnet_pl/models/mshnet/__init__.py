"""MSHNet (Shi et al., arXiv 2203.09550)."""
