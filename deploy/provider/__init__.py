"""A quantum provider that does not exist, as a server of its own, for tests, demos and fault runs."""
