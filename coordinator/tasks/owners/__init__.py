"""What owners say through their agents: their part in a campaign, held updates, offers of benchmarks, gains."""
