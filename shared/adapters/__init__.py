"""Adapters: their files, and the factors of LoRA in them."""
