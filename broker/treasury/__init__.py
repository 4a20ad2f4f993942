"""Budgets and quotas: the Treasury that grants units, and what a dispatcher's shard does with them."""
