"""From recorded results to tables, figures and a page; trains nothing and runs no network."""

from mshnet_pl.report import command, tables

__all__ = ["command", "tables"]
