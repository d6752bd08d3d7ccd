"""What the coordinator signed: an agent follows the chain of each campaign, and does nothing that contradicts it."""
