"""The dispatcher: pure machine, its tables, and its edge."""
