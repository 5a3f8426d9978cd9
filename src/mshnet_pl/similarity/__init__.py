"""Similarities between a query and masked supports: cosine (CS) and generative prototype (GPS)."""
