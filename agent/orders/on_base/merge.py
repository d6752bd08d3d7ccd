"""The order to merge base model and adapter."""

from pathlib import Path
from typing import ClassVar, Literal

from agent.orders.on_base.model import LocalOrder, LoraFile
from agent.orders.protocol import Message

Dtype = Literal["float32", "bfloat16", "float16"]


class Merged(Message):
    """Largest absolute differences of logits on a few texts, against base and adapter in float32.

    merge_difference: of the merged weights in float32. file_difference: of the written files, read again.
    """

    type: Literal["merged"] = "merged"
    merge_difference: float
    file_difference: float


class MergeRequest(LocalOrder[Merged]):
    """Merge base model and adapter, write the model as *dtype* into the existing empty *folder*, and check it.

    If the order fails, the folder's content is unusable.
    """

    handler: ClassVar[str] = "agent.train.local.merging:merge"

    type: Literal["merge"] = "merge"
    adapter: LoraFile
    dtype: Dtype
    folder: Path
