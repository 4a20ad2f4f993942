"""The bus seam and its three implementations."""
