"""Tasks as agents see them: leases, jobs, uploads, results."""
