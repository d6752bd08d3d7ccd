"""The owner's record: which campaigns were accepted, and what was done for them. It outlives every task and restart."""
