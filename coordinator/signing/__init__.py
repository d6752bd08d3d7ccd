"""What the coordinator signs: the chain of statements of each campaign, by one key."""
