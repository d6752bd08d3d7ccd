"""Supervised fine-tuning: the loss covers the completion of each prompt.

Ouyang et al. 2022, "Training language models to follow instructions with human feedback" (arXiv 2203.02155), step 1.
"""

from shared.kinds.base import KindSection
from shared.metrics import Weight, losses


class Section(KindSection):
    """Supervised fine-tuning has no parameters of its own."""


COMPLETIONS = ("completion",)
LABELS = ()
METRICS = losses("nats a token", Weight.TOKENS)
