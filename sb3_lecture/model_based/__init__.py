"""Agents that plan: search in a given model, and models that are learned."""
