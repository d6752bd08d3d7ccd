"""Campaigns as operators make, steer and read them."""
