"""Networks from elsewhere (``mshnet-convert``) and for elsewhere (``mshnet-export``), each with its model card."""
