"""From recorded results to tables and figures; trains and computes nothing."""

from mshnet_pl.report import figures, tables

__all__ = ["figures", "tables"]
