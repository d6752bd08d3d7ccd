"""The fork server of training children: imports their libraries, and what those import at first use."""

import os

from agent.orders.table import ORDERS
from agent.train.process.environment import guard_environment
from tests.support.forks.fork_server import main

_MODULES = (
    "agent.train.worker",
    *sorted({order.handler.partition(":")[0] for order in ORDERS}),
    # libraries import these at first use
    *("peft.tuners.lora.bnb", "peft.utils.transformers_weight_conversion", "transformers.integrations.bitsandbytes"),
    *("transformers.models.llama.configuration_llama", "transformers.models.llama.modeling_llama"),
)


def _adopt() -> None:
    import numpy as np
    import torch

    np.random.seed()
    torch.seed()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))


if __name__ == "__main__":
    guard_environment()
    main(_MODULES, _adopt)
