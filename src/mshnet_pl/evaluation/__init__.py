"""Scores, energy maps and pictures of episodes."""
