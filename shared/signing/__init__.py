"""Signed statements: what a coordinator says of a campaign to all of its agents alike."""
