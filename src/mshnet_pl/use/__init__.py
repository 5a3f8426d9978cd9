"""``mshnet-predict``: a trained network on folders of one's own images."""
