"""The owner's ledger: every request that the agent sends, on the disk before it leaves, in a chain of digests."""
