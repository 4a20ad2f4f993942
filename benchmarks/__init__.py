"""Benchmarks behind `shotbus bench`: what is measured and how is in docs/benchmarks.md."""
