"""Which baselines are asked for. It holds no numpy: the command line reads it to print its help."""

from enum import StrEnum


class Baselines(StrEnum):
    """What algorithms are compared with, beside each other and the base model."""

    ALL = "all"
    ALONE = "alone"
    POOLED = "pooled"
    NONE = "none"
