"""What the owner's precision for the base model refuses on a CPU, where the campaign decides."""

import json
from collections.abc import Iterator

from agent.configuration.processor import cpu_dtype
from agent.configuration.settings import ComputeSettings
from agent.policy.refusals import Refusal
from shared.campaign.spec import AskedCpuDtype


def precision_refusals(compute: ComputeSettings, asked: AskedCpuDtype) -> Iterator[Refusal]:
    """What the settings refuse of a campaign whose base model has the precision *asked* on a CPU."""
    is_half = compute.dtype == "float16"
    if cpu_dtype(asked, compute, "") is None:
        yield Refusal(
            "compute.dtype",
            json.dumps(compute.dtype),
            "float16 trains on a GPU only" if is_half else f"the base model is in {asked} on a CPU (base.cpu_dtype)",
            'leave compute.dtype out, or set it to "auto": on a CPU the campaign decides',
            "base.cpu_dtype",
        )
