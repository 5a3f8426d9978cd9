"""PANet (Wang et al., ICCV 2019)."""
