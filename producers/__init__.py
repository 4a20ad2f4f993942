"""Everything that puts work on the bus."""
