"""The parent's side of the training child."""
