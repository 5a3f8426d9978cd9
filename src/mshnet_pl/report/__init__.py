"""From recorded results to tables and figures; trains and computes nothing."""
