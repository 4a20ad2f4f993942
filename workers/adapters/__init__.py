"""One small adapter a backend."""
