"""From recorded results to tables, figures and a page; trains nothing and runs no network."""
