"""Learners of equilibria: games with hidden information, populations of players."""
