"""Runs FedAvg rounds by a provisioned server and clients, each a process of its own (NVFlare's POC environment).

python job.py N_BYTES N_TENSORS AGENTS ROUNDS TIMES
"""

import sys
from pathlib import Path

from nvflare.client.config import ExchangeFormat
from nvflare.fuel.utils.constants import FrameworkType
from nvflare.recipe.fedavg import FedAvgRecipe
from nvflare.recipe.poc_env import PocEnv
from random_weights import RandomWeights


def main() -> None:
    n_bytes, n_tensors, n_agents, n_rounds = map(int, sys.argv[1:5])
    recipe = FedAvgRecipe(
        name="payload",
        model_persistor=RandomWeights(n_bytes, n_tensors),
        min_clients=n_agents,
        num_rounds=n_rounds,
        train_script=str(Path(__file__).with_name("client.py")),
        train_args=sys.argv[5],
        framework=FrameworkType.NUMPY,
        server_expected_format=ExchangeFormat.NUMPY,
    )
    # a slow machine needs more than the ten seconds until the server answers; they are not part of a round
    run = recipe.execute(PocEnv(num_clients=n_agents, extra={"login_timeout": 300}))
    print(run.get_result())  # waits, and stops all processes


if __name__ == "__main__":
    main()
