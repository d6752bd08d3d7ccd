"""Texts: as people save and write them, as messages and logs show them."""
