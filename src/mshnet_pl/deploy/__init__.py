"""Networks from elsewhere and for elsewhere, each with its model card."""
