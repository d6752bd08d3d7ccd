"""FedAvg over arrays of random numbers. Writes the time of the end of each round, in seconds, a line each."""

import time
from pathlib import Path

import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    given = context.run_config
    noise = np.random.default_rng(0)
    n_values = max(1, int(given["n-bytes"]) // 4 // int(given["n-tensors"]))
    arrays = [noise.standard_normal(n_values, dtype=np.float32) for _ in range(int(given["n-tensors"]))]
    n_agents = int(given["agents"])
    strategy = FedAvg(
        fraction_evaluate=float(given["evaluation"]),
        min_train_nodes=n_agents,
        min_evaluate_nodes=n_agents,
        min_available_nodes=n_agents,
    )
    times = Path(str(given["times"]))

    def ended(_round: int, _arrays: ArrayRecord) -> None:
        with times.open("a") as file:
            file.write(f"{time.time()}\n")

    # called before the first round too: the differences are the rounds
    strategy.start(grid, ArrayRecord(arrays), num_rounds=int(given["rounds"]), evaluate_fn=ended)
    times.with_suffix(".done").touch()
