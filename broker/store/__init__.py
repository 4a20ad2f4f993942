"""The store seam and its three implementations."""
