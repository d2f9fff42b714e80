"""Learners that vary parameters and keep what scores well: no gradient passes through the policy or the environment."""
