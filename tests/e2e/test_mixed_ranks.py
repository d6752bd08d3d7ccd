"""A campaign whose agents train different ranks, with real training on a tiny model: what each of them receives.

The algorithm is the example of the SVD. Its clients also report where they started and what was broadcast to them:
one value for each tensor, and an adapter of twice the campaign's rank.
"""

import json
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

from shared.adapters.files import AdapterFile, slot_name
from shared.adapters.lora import cut, factors
from tests.e2e.test_training import SETTINGS, make_agent
from tests.support.distributions import EXAMPLES, write_distribution
from tests.support.entry_points import write_out
from tests.support.processes import QuickCoordinator, ended

pytestmark = pytest.mark.train

MODULE = '''
"""The SVD, with clients that report what they received."""

import fedloom_svd
import numpy as np

from shared.algorithms import ClientHalf
from shared.adapters.lora import shape_at_rank

Params = fedloom_svd.Params


class Server(fedloom_svd.Server):
    state = broadcast = ("size", "wide")

    def slot_shape(self, slot, name, shape):
        return (1,) if slot == "size" else shape_at_rank(name, shape, 16)

    def combine(self, part, facts):
        made = super().combine(part, facts)
        for (name, x), axis in zip(part.x.items(), (0, 1)):
            part.state[name]["size"] = np.float32([np.abs(made[name]).sum()])
            part.state[name]["wide"] = np.concatenate([x, made[name]], axis=axis)
        return made


class Client(ClientHalf[Params]):
    extras = ("start", "size", "wide")

    def finish(self, name, w, anchor, lr, steps):
        if not self.broadcast:
            return {"start": anchor, "size": anchor * 0, "wide": anchor * 0}
        wide = self.broadcast["wide"][name]
        last = wide[8 : 8 + anchor.shape[0]] if "lora_A" in name else wide[:, 8 : 8 + anchor.shape[1]]
        return {"start": anchor, "size": anchor * 0 + self.broadcast["size"][name], "wide": last * 1}
'''
CAMPAIGN = {
    "name": "mixed",
    "base": {"model": "org/tiny"},
    "lora": {"rank": 8},
    "training": {"steps": 4, "batch_size": 4, "max_length": 128, "learning_rate": 0.01, "seed": 3},
    "data": {"name": "rows"},
    "algorithm": {"name": "reporting"},
    "rounds": 2,
    "selection": {"minimum": 2},
    "evaluation": {"every": 2},
    "retention": {"updates": 2},
}
RANKS = {"ada": 4, "bob": 8}

Tensors = dict[str, np.ndarray]


def read(path: Path) -> Tensors:
    with AdapterFile(path) as file:
        return {name: file.read(name).copy() for name in file.tensors}


@pytest.mark.deep
def test_a_client_of_a_smaller_rank_starts_from_the_first_components_of_the_svd(tmp_path: Path) -> None:
    from tests.support.tiny import ROWS, make_model

    model = make_model(tmp_path / "model")
    site = write_out(EXAMPLES, tmp_path / "site")
    write_out(write_distribution(tmp_path / "source", "reporting", dedent(MODULE)), tmp_path / "site")
    lines = [json.dumps(row) for row in ROWS]
    coordinator = QuickCoordinator(tmp_path / "coordinator", PYTHONPATH=site)
    smaller = SETTINGS.replace("threads = 1", "threads = 1\nmax_lora_rank = 4")
    ada = make_agent(coordinator, tmp_path / "ada", model, "\n".join(lines[:30]), smaller)
    bob = make_agent(coordinator, tmp_path / "bob", model, "\n".join(lines[30:]))
    with ended(coordinator, ada, bob):
        for agent in (ada, bob):
            agent.environment["PYTHONPATH"] = site
            agent.start()
        operator = coordinator.operator
        campaign_id = operator.post("/v1/campaigns", CAMPAIGN)["id"]
        campaign = operator.wait_for(campaign_id, "completed", "paused", timeout_s=400)
        assert campaign["state"] == "completed", campaign["reason"]
        verified = [each["outcome"] for each in operator.verify(campaign_id)]
        adapters = operator.items(f"/v1/campaigns/{campaign_id}/adapters")

        def stored(sha256: str) -> Tensors:
            path = tmp_path / sha256
            path.write_bytes(operator.http.get(f"/v1/blobs/{sha256}").content)
            return read(path)

        made = [stored(adapter["blob"]["sha256"]) for adapter in adapters]
        shares = [adapter["contributions"] for adapter in adapters]

    def uploaded(sha256: str) -> Tensors:
        [path] = coordinator.data.glob(f"updates/*/{sha256}")
        return read(path)

    assert {each["agent_name"]: each["rank"] for each in campaign["participants"]} == RANKS
    assert verified == ["verified"] * 3
    assert adapters[2]["metrics"]["held_out_loss"] < adapters[0]["metrics"]["held_out_loss"]
    for number in (1, 2):
        x, after = made[number - 1], made[number]
        products: dict[str, np.ndarray] = {}
        for share in shares[number]:
            rank, delta = RANKS[share["agent_name"]], uploaded(share["update_sha256"])
            extras = uploaded(share["extras_sha256"])
            for name, values in x.items():
                start = extras[slot_name("start", name)]
                np.testing.assert_array_equal(start, cut(name, values, rank))
                size, wide = extras[slot_name("size", name)], extras[slot_name("wide", name)]
                if number == 1:  # the server's state is the initial one
                    assert not size.any()
                    assert not wide.any()
                else:
                    np.testing.assert_array_equal(size, np.full_like(size, np.abs(values).sum()))
                    np.testing.assert_array_equal(wide, start)
            for a, b in factors(x):
                product = (cut(b, x[b], rank).astype(float) + delta[b]) @ (cut(a, x[a], rank).astype(float) + delta[a])
                products[b] = products.get(b, 0) + share["weight"] * product
        for a, b in factors(x):
            u, s, v = np.linalg.svd(products[b])
            for rank in (4, 8):  # what each client receives
                best = u[:, :rank] * s[:rank] @ v[:rank]
                found = cut(b, after[b], rank).astype(float) @ cut(a, after[a], rank)
                assert np.linalg.norm(found - best) <= 1e-5 * np.linalg.norm(best)
