"""Circuits that were compiled once: kept on disk for the workers of a host, compiled ahead of their turn."""
