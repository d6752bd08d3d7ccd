"""Where the algorithms converge: real halves on quadratics with different client optima, against closed forms."""

from typing import Any

import numpy as np
import pytest

from shared import algorithms
from shared.algorithms import Updates, scaffold
from shared.algorithms.base import Array
from tests.support.quadratics import Federation, Quadratics, joined, zero_of

PROBLEM = Quadratics.drawn(0, rows=[10, 250, 40, 90, 20, 150])
ROUNDS = 150


def optimum(by: str = "examples") -> np.ndarray:
    return PROBLEM.optimum(PROBLEM.shares(by))


def drift(federation: Federation, mu: float = 0.0) -> np.ndarray:
    """The fixed point of averaging after S steps of SGD on f_k(w) + μ/2 ‖w − x‖²: the zero of Σ p_k Δ_k."""
    h, identity = PROBLEM.h, np.eye(6)
    held = h + mu * identity
    reached = identity - np.linalg.matrix_power(identity - federation.lr * held, federation.steps)
    return zero_of(PROBLEM.shares(federation.by), reached @ np.linalg.inv(held) @ h, PROBLEM.a)


# --- SCAFFOLD and the client drift that it removes


@pytest.mark.parametrize("draw", [None, 3], ids=["all", "three of six"])
@pytest.mark.parametrize("by", ["examples", "uniform"])
def test_scaffold_reaches_the_optimum_of_the_weighted_sum(by: str, draw: int | None) -> None:
    federation = Federation(PROBLEM, "scaffold", by=by).run(2 * ROUNDS, draw)
    assert federation.distance_to(optimum(by)) < 1e-4
    for k in range(6):
        c_k = joined(federation.client_states[k]["c_k"])
        np.testing.assert_allclose(c_k, PROBLEM.gradient(k, optimum(by)), atol=1e-3)
    np.testing.assert_allclose(joined(federation.state["c"]), 0, atol=1e-4)


@pytest.mark.parametrize("by", ["examples", "uniform"])
def test_averaging_alone_ends_a_thousand_times_further_away(by: str) -> None:
    federation = Federation(PROBLEM, "fedavg", by=by).run(ROUNDS)
    assert federation.distance_to(drift(federation)) < 1e-4
    assert federation.distance_to(optimum(by)) > 0.1


def test_the_two_weightings_have_different_optima() -> None:
    assert np.linalg.norm(optimum("examples") - optimum("uniform")) > 0.1


class OneOverN(scaffold.Server):
    """The paper's rule: c ← c + (1/N) Σ_{k in round} Δc_k."""

    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        for update in updates:
            state["c"] = state["c"] + update.read("delta_c") / 6
        return x + self.params.eta_g * updates.mean_delta()


@pytest.mark.parametrize("draw", [None, 3], ids=["all", "three of six"])
def test_one_nth_in_place_of_q_ends_at_the_optimum_of_another_weighting(draw: int | None) -> None:
    federation = Federation(PROBLEM, "scaffold", by="examples", server=OneOverN).run(2 * ROUNDS, draw)
    assert federation.distance_to(optimum("uniform")) < 1e-4
    assert federation.distance_to(optimum("examples")) > 0.1


# --- client state


def lose(federation: Federation, client: int) -> np.ndarray:
    """Train for a few rounds, then delete a client's control variate. Returns the deleted one."""
    federation.run(5)
    lost = joined(federation.client_states.pop(client)["c_k"])
    assert np.abs(lost).max() > 0.1
    return lost


@pytest.mark.parametrize("draw", [None, 3], ids=["all", "three of six"])
def test_after_a_client_lost_its_control_variate_all_start_again_and_reach_the_optimum(draw: int | None) -> None:
    federation = Federation(PROBLEM, "scaffold")
    lose(federation, client=1)
    federation.round(range(6))
    assert not federation.state
    assert not federation.client_states
    assert federation.run(2 * ROUNDS, draw).distance_to(optimum()) < 1e-4


def test_if_only_that_client_restarts_its_lost_share_stays_in_c() -> None:
    federation = Federation(PROBLEM, "scaffold", restarts=False)
    lost = lose(federation, client=1)
    federation.run(2 * ROUNDS)
    shares = PROBLEM.shares("examples")
    assert federation.distance_to(PROBLEM.optimum(shares, push=-shares[1] * lost)) < 1e-4
    assert federation.distance_to(optimum()) > 0.1


def test_a_discarded_update_leaves_no_control_variate() -> None:
    distances = []
    for commits in (True, False):
        federation = Federation(PROBLEM, "scaffold", commits=commits).run(2 * ROUNDS, draw=4, late=1)
        distances.append(federation.distance_to(optimum()))
    assert distances[0] < 1e-4
    assert distances[1] > 1e-2


# --- FedProx


@pytest.mark.parametrize("mu", [0.0, 1.0, 8.0])
def test_fedprox_ends_where_the_proximal_problem_does(mu: float) -> None:
    federation = Federation(PROBLEM, "fedprox", {"mu": mu}).run(ROUNDS)
    assert federation.distance_to(drift(federation, mu)) < 1e-4


def test_a_large_mu_holds_clients_near_the_global_adapter_and_the_end_near_the_optimum() -> None:
    lengths, distances = [], []
    for name, params in (("fedavg", {}), ("fedprox", {"mu": 1.0}), ("fedprox", {"mu": 8.0})):
        federation = Federation(PROBLEM, name, params)
        lengths.append([np.linalg.norm(joined(federation.train(k)["delta"])) for k in range(6)])
        distances.append(federation.run(ROUNDS).distance_to(optimum()))
    for k in range(6):
        assert lengths[0][k] > lengths[1][k] > lengths[2][k]
    assert distances[0] > distances[1] > 2 * distances[2]


def test_mu_of_zero_is_fedavg_bit_for_bit() -> None:
    ended = [Federation(PROBLEM, *which).run(10, draw=3).w for which in (("fedavg",), ("fedprox", {"mu": 0.0}))]
    np.testing.assert_array_equal(*ended)


# --- all bundled algorithms

RATES: dict[str, dict[str, Any]] = {
    "fedadagrad": {"eta": 1.0},
    "fedadam": {"eta": 0.3},
    "fedavg": {},
    "fedavgm": {},
    "fedprox": {},
    "fedyogi": {"eta": 0.3},
    "scaffold": {},
}


def test_every_algorithm_that_comes_with_fedloom_is_tried_here() -> None:
    assert set(RATES) == algorithms.bundled()


@pytest.mark.parametrize("name", sorted(RATES))
def test_each_bundled_algorithm_removes_most_of_the_loss(name: str) -> None:
    federation = Federation(PROBLEM, name, RATES[name])
    shares = PROBLEM.shares("examples")
    least = PROBLEM.loss(optimum(), shares)
    before = PROBLEM.loss(federation.w, shares) - least
    after = PROBLEM.loss(federation.run(100).w, shares) - least
    assert after < 0.2 * before
