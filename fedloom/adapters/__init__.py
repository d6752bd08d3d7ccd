"""Adapters as folders: download, lineage, model cards."""
