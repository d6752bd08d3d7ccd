"""Evaluation tasks that score the rows of a comparison."""
