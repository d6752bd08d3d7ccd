"""A campaign as CSV or JSON lines."""
