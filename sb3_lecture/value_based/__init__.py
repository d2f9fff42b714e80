"""Learners that take a maximum over the outputs of an action-value network."""
