"""What stays in memory between orders."""

from collections.abc import Sequence

from agent.train.base.model_cache import ModelCache
from agent.train.base.on_disk.finder import BaseFinder
from agent.train.data.cache import DataCache
from agent.train.distributed.follower import Follower
from agent.train.distributed.leader import Leader


class WarmState:
    """What stays in memory between orders.

    Of the current order, reported if memory runs out: longest_row_tokens, tokens of the longest row; micro_batch, rows
    at once; both 0 until known; recomputed, whether layers keep only their inputs, or cannot.

    ranks: the processes that train together, as this one takes part.
    """

    def __init__(self, gpus: Sequence[str] = ()) -> None:
        """gpus: see ``Leader``."""
        self.ranks: Leader | Follower = Leader(gpus)
        self.models = ModelCache()
        self.data = DataCache()
        self.finder = BaseFinder()
        self.begin()

    def begin(self) -> None:
        """Forget what belongs to the order before."""
        self.longest_row_tokens = self.micro_batch = 0
        self.recomputed = True
