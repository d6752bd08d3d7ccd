"""Tasks as agents see them: leases, assignments, uploads, results."""
