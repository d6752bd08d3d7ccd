"""SQLite: its driver, its dialect, and its connections of their own."""
