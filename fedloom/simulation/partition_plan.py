"""The kind of partition and its options. Imports no numpy: the command line reads this module to print its help."""

from dataclasses import dataclass
from enum import StrEnum

from fedloom.errors import PartitionError

DEFAULT_ALPHA = 0.5
MAX_ALPHA = 1e6
"""At this value shares are equal to a tenth of a percent. Near the largest float, the draw would overflow."""


class PartitionKind(StrEnum):
    """How rows are split among clients."""

    IID = "iid"
    DIRICHLET = "dirichlet"
    QUANTITY = "quantity"
    KEY = "key"
    DOMAIN = "domain"


_BY_COLUMN = {PartitionKind.DIRICHLET, PartitionKind.KEY, PartitionKind.DOMAIN}
_BY_ALPHA = {PartitionKind.DIRICHLET, PartitionKind.QUANTITY}


@dataclass(frozen=True)
class PartitionPlan:
    """A kind of partition with its options. Raises PartitionError if the options do not fit the kind."""

    kind: PartitionKind
    by: str | None = None
    """Column that holds the label, key or domain of a row."""
    alpha: float | None = None
    """Concentration of the Dirichlet distribution: small is skewed, large is even. None means DEFAULT_ALPHA."""

    def __post_init__(self) -> None:
        if self.kind in _BY_COLUMN and not self.by:
            raise PartitionError(f"the partition {self.kind} needs a column of the data: --by COLUMN")
        if self.kind not in _BY_COLUMN and self.by is not None:
            raise PartitionError(f"the partition {self.kind} uses no column; leave out --by")
        if self.kind not in _BY_ALPHA:
            if self.alpha is not None:
                raise PartitionError(f"the partition {self.kind} has no alpha; leave out --alpha")
            return
        if self.alpha is None:
            object.__setattr__(self, "alpha", DEFAULT_ALPHA)  # the dataclass is frozen
        elif not 0 < self.alpha <= MAX_ALPHA:  # NaN is refused too
            raise PartitionError(f"alpha is {self.alpha:g}; it must be above 0 and at most {MAX_ALPHA:g}")

    def __str__(self) -> str:
        by = f" by {self.by}" if self.by is not None else ""
        return f"{self.kind}{by}" + (f", alpha {self.alpha:g}" if self.alpha is not None else "")
