"""What a model is asked, what it replies, and who can be asked."""
