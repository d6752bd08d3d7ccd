"""Trials: one simulated campaign each, several at a time, with their scores."""
