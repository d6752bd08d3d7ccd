"""Texts after raw prompts."""
