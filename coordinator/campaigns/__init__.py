"""Campaigns as operators create, control and read them."""
