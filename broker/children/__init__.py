"""Child processes with limits: how they are started, bounded, talked to and ended. Starts processes."""
