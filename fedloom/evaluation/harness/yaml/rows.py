"""What the YAML tasks name as the source of their rows."""

from fedloom.evaluation.harness.rows import load

__all__ = ["load"]
