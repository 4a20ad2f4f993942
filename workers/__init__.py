"""Worker pools: leases, child processes, adapters."""
