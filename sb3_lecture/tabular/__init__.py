"""Tabular methods: one number a state or a state-action pair, learned from experience or computed from the law."""
