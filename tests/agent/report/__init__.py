"""The owner's report."""
