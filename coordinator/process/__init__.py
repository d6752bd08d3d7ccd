"""What one process of the coordinator has: its threads and its files."""
