"""What a person asks for on this machine: answers, likelihoods, merged models."""
