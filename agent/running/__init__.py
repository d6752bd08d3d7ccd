"""The agent at work: it waits for tasks, and does each of them."""
