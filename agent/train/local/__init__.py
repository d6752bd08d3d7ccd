"""Orders of a person at this machine: answers, likelihoods, raw texts, data checks, merged models."""
