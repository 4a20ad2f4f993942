"""Benchmarks behind `shotbus bench`."""
