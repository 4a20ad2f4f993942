"""What the adapters of all providers have in common: submit once, ask, check."""
