"""Which baselines to run. Imports no numpy: the command line reads this module to print its help."""

from enum import StrEnum


class Baselines(StrEnum):
    """Baselines besides the base model, which every comparison has."""

    ALL = "all"
    ALONE = "alone"
    POOLED = "pooled"
    NONE = "none"
