"""General knowledge, reasoning and mathematics."""
