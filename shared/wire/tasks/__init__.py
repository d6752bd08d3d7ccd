"""Messages about tasks: the lease, what it asks for, and how it ends."""
