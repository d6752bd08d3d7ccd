"""Kahneman-Tversky optimisation: completions that are labelled desirable or undesirable, one at a time.

Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization" (arXiv 2402.01306).
"""

from typing import Annotated

from pydantic import Field

from shared.kinds import KindSection
from shared.metrics import Better, Metric, Origin, Weight, losses


class Section(KindSection):
    """Parameters of KTO."""

    beta: Annotated[float, Field(gt=0)] = 0.1
    """β: a larger one keeps the model closer to the reference."""


COMPLETIONS = ("completion",)
LABELS = ("label",)
METRICS = (
    *losses("a row", Weight.ROWS),
    Metric(
        name="held_out_agreement",
        title="held-out agreement",
        origin=Origin.EVALUATION,
        unit="of rows",
        better=Better.HIGHER,
        weight=Weight.ROWS,
        minimum=0,
        maximum=1,
    ),
)
