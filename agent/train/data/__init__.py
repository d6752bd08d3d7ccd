"""Rows become tokens, and a round's share of them is drawn."""
