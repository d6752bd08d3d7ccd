"""What the agent passes between its owner and the coordinator: questions, decisions, and results told back."""
