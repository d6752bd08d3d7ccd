"""Supervised fine-tuning in which something happens to one rank."""

from typing import Literal

from shared.kinds import KindSection
from shared.kinds.sft import COMPLETIONS, LABELS, METRICS

__all__ = ["COMPLETIONS", "LABELS", "METRICS", "Section"]


class Section(KindSection):
    """What happens, to which rank, and in which of its micro-batches, from 1."""

    fault: Literal["none", "memory", "kill", "error", "refusal"] = "none"
    rank: int = 1
    micro_batch: int = 1
