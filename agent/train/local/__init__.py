"""Orders of a person at this machine: answers, likelihoods, data checks, merged models."""
