"""What a comparison trains: methods, the hyperparameters that each one tries, and what cannot be tried."""
