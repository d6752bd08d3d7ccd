"""Who takes part in a campaign, and who in a round."""
