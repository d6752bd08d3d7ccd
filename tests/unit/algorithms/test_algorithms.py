"""Discovery of algorithms, and the arithmetic of FedAvg."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from shared import algorithms
from shared.algorithms import Algorithm, ClientHalf, ServerHalf, Updates, UpdateTensor, fedavg
from shared.algorithms.base import Array
from shared.campaign.spec import AlgorithmSection
from shared.plugins import BrokenPlugin, UnknownPlugin

ROOT = Path(__file__).parents[3]


def updates(deltas: Sequence[Array], p: Sequence[float], q: Sequence[float] | None = None) -> Updates:
    """Updates with these deltas. Each has an extra ``c``, which is twice its delta."""

    def tensor(delta: Array, p_k: float, q_k: float) -> UpdateTensor:
        return UpdateTensor(p_k, q_k, delta.shape, lambda slot: {"delta": delta, "c": 2 * delta}[slot])

    return Updates([tensor(*parts) for parts in zip(deltas, p, q or p, strict=True)], "w", deltas[0].shape)


def random_deltas(n: int, shape: tuple[int, ...] = (8, 32)) -> list[Array]:
    rng = np.random.default_rng(n)
    # magnitudes so far apart that a float32 sum would lose the small ones
    return [(rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 3)).astype(np.float32) for _ in range(n)]


def aggregated(x: Array, ups: Updates) -> Array:
    return fedavg.Server(fedavg.Params()).aggregate(x, ups, {}, first=True)


# --- discovery


def test_fedavg_is_found_with_its_parts_and_its_paper() -> None:
    algorithm = algorithms.find("fedavg")
    assert (algorithm.name, algorithm.params, algorithm.server, algorithm.client) == (
        "fedavg",
        fedavg.Params,
        fedavg.Server,
        fedavg.Client,
    )
    assert algorithm.summary.startswith("FedAvg: ")
    assert "\n" not in algorithm.summary
    assert "fedavg" in algorithms.names()


@pytest.mark.parametrize("name", ["fedadagrad", "fedadam", "fedavg", "fedavgm", "fedprox", "fedyogi", "scaffold"])
def test_a_campaign_accepts_each_bundled_algorithm_and_no_misspelt_name(name: str) -> None:
    assert AlgorithmSection(name=name).name == name
    with pytest.raises(ValidationError, match=f"unknown algorithm .* known are .*{name}"):
        AlgorithmSection(name=name[:4] + name[5:])


@pytest.mark.parametrize("name", ["fedavgg", "base", "", "..base", "fedavg.Server", "__init__", "os"])
def test_the_error_for_an_unknown_algorithm_lists_the_known_ones(name: str) -> None:
    with pytest.raises(UnknownPlugin) as caught:
        algorithms.find(name)
    assert caught.value.name == name
    assert "fedavg" in caught.value.known
    assert "known are" in str(caught.value)


def test_every_algorithm_has_a_default_and_states_its_slots() -> None:
    for name in algorithms.names():
        algorithm = algorithms.find(name)
        server = algorithm.server(algorithm.params())
        assert set(server.broadcast) <= set(server.state)
        for slot in server.state:
            state = server.initial_state(slot, (2, 3))
            assert (state.shape, state.dtype) == ((2, 3), np.float32)
        assert "delta" not in algorithm.client.extras


class WithHelper(fedavg.Client):
    """Adds a method that nothing calls."""

    def unused(self) -> None: ...


class WithMixin(WithHelper):
    """Inherits the method that makes it more than plain."""


class WithEmptySlots(fedavg.Client):
    """Declares empty slots."""

    extras = ()
    state = ()


class WithExtras(fedavg.Client):
    """Uploads an extra."""

    extras = ("c",)


class WithState(fedavg.Client):
    """Has client state."""

    state = ("c",)


class WithStep(fedavg.Client):
    """Corrects each step."""

    def after_step(self, name: str, w: Any, lr: float) -> None:
        w -= lr


class Broadcasting(fedavg.Server):
    """Broadcasts a slot."""

    state = broadcast = ("c",)


@pytest.mark.parametrize(
    ("server", "client", "is_plain"),
    [
        (fedavg.Server, fedavg.Client, True),
        (fedavg.Server, ClientHalf, True),
        (fedavg.Server, WithEmptySlots, True),
        (Broadcasting, fedavg.Client, False),
        (fedavg.Server, WithExtras, False),
        (fedavg.Server, WithState, False),
        (fedavg.Server, WithStep, False),
        (fedavg.Server, WithHelper, False),
        (fedavg.Server, WithMixin, False),
    ],
)
def test_a_client_half_is_plain_if_the_base_class_can_stand_in_for_it(
    server: type[ServerHalf[Any]], client: type[ClientHalf[Any]], is_plain: bool
) -> None:
    assert Algorithm("one", "", fedavg.Params, server, client).has_plain_client is is_plain


def test_the_bundled_algorithms_with_a_client_half_of_their_own_are_two() -> None:
    own = {name for name in algorithms.bundled() if not algorithms.find(name).has_plain_client}
    assert own == {"fedprox", "scaffold"}


PLUGIN = '''"""FedMax: the largest delta wins."""
from shared.algorithms.base import AlgorithmParams, ClientHalf, ServerHalf

class Params(AlgorithmParams):
    gain: float = 2.0

class Server(ServerHalf[Params]):
    def aggregate(self, x, updates, state, *, first):
        return x + self.params.gain * max((u.read("delta") for u in updates), key=abs)

class Client(ClientHalf[Params]):
    """Plain."""
'''

USE = """
from shared import algorithms
from shared.campaign.spec import AlgorithmSection
algorithm = algorithms.find("fedmax")
print(algorithm.summary, algorithm.params().gain, "fedmax" in algorithms.names())
AlgorithmSection(name="fedmax", params={"gain": 3})
print(algorithms.find("fedavg").summary[:6])
"""


def test_an_algorithm_of_an_installed_distribution_is_found(tmp_path: Path) -> None:
    (tmp_path / "fedmax_plugin.py").write_text(PLUGIN)
    info = tmp_path / "fedmax-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fedmax\nVersion: 1.0\n")
    # the second entry has the name of a bundled algorithm, which takes precedence
    (info / "entry_points.txt").write_text("[fedloom.algorithms]\nfedmax = fedmax_plugin\nfedavg = fedmax_plugin\n")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    ran = subprocess.run(
        [sys.executable, "-c", USE], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert ran.stdout == "FedMax: the largest delta wins. 2.0 True\nFedAvg\n", ran.stderr


# --- FedAvg


def test_equal_deltas_give_that_delta_exactly() -> None:
    (delta,) = random_deltas(1)
    for n in (2, 3, 7, 10, 100):
        weights = np.random.default_rng(n).random(n)
        mean = updates([delta] * n, list(weights / weights.sum())).mean_delta()
        np.testing.assert_array_equal(mean, delta)


def test_one_client_gives_its_own_delta() -> None:
    (delta,) = random_deltas(1)
    x = np.zeros_like(delta)
    np.testing.assert_array_equal(aggregated(x, updates([delta], [1.0])), delta)


def test_weights_by_hand() -> None:
    deltas = [np.float32([4.0, 0.0]), np.float32([0.0, 8.0])]
    x = np.float32([1.0, 1.0])
    np.testing.assert_array_equal(aggregated(x, updates(deltas, [0.75, 0.25])), np.float32([4.0, 3.0]))
    np.testing.assert_array_equal(x, np.float32([1.0, 1.0]))


def test_the_global_adapter_may_be_read_only() -> None:
    x = np.ones(2, dtype=np.float32)
    x.flags.writeable = False
    assert aggregated(x, updates([np.ones(2, dtype=np.float32)], [1.0])).flags.writeable


@pytest.mark.parametrize("n", [2, 5, 50])
def test_mean_delta_is_numpys_mean_in_float64(n: int) -> None:
    deltas, weights = random_deltas(n), np.random.default_rng(n).random(n)
    p = weights / weights.sum()
    mean = updates(deltas, list(p)).mean_delta()
    expected = np.average(np.stack(deltas).astype(np.float64), axis=0, weights=p)
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, expected, rtol=1e-7, atol=1e-9 * float(np.abs(expected).max()))


def test_a_small_client_is_not_lost_beside_a_large_one() -> None:
    big, small = np.float32([1e8]), np.float32([1.0])
    # in float32, 5e7 + 0.5 - 5e7 would be 0
    mean = updates([big, small, -big], [1 / 3] * 3).mean_delta()
    assert mean[0] == pytest.approx(1 / 3, rel=1e-6)


def test_whatever_the_order_of_arrival_sorting_by_client_number_gives_the_same_bits() -> None:
    n = 9
    deltas, p = random_deltas(n), [(number + 1) / 45 for number in range(n)]
    arrivals = [np.random.default_rng(seed).permutation(n) for seed in range(5)]
    sums = set()
    for arrival in arrivals:
        in_order = sorted(int(number) for number in arrival)
        sums.add(updates([deltas[k] for k in in_order], [p[k] for k in in_order]).mean_delta().tobytes())
    assert len(sums) == 1


def test_sums_over_the_campaign_use_q_and_clients_that_sat_out_add_nothing() -> None:
    deltas = [np.float32([1.0]), np.float32([10.0])]
    ups = updates(deltas, p=[0.5, 0.5], q=[0.25, 0.125])  # a third client holds the rest of q
    np.testing.assert_array_equal(ups.sum_in_campaign("c"), np.float32([2 * 0.25 + 20 * 0.125]))
    assert len(ups) == len(list(ups)) == 2


def test_the_client_half_is_plain() -> None:
    client = fedavg.Client(fedavg.Params(), {})
    w = np.ones(2, dtype=np.float32)
    assert client.extra_grad("w", w, w) is None
    client.after_step("w", w, 0.1)
    np.testing.assert_array_equal(w, np.float32([1, 1]))
    assert client.finish("w", w, w, 0.1, 3) == {}


# --- plug-ins that break the interface


class Module(ModuleType):
    """A plug-in's module, with FedAvg's classes except for those given; None leaves one out."""

    def __init__(self, **given: Any) -> None:
        super().__init__("plug_in")
        for part, value in {"Params": fedavg.Params, "Server": fedavg.Server, "Client": fedavg.Client, **given}.items():
            if value is not None:
                setattr(self, part, value)


def server(**attributes: Any) -> type[ServerHalf[Any]]:
    return type("Server", (fedavg.Server,), attributes)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (Module(Server=None, Client=None), "its module has no Server, Client"),
        (Module(Server=ServerHalf), "its Server defines neither aggregate nor combine"),
        (Module(Server=server(broadcast=("m",))), "its Server.broadcast names m, which Server.state lacks"),
        (Module(Server=server(state=("a",), client_sums=("c",))), "its Server.client_sums names c, which"),
        (ImportError("no module named x"), "loading it ended in ImportError; the log has the reason"),
        (SystemExit(3), "loading it ended in SystemExit; the log has the reason"),
    ],
)
def test_a_broken_plug_in_is_refused_in_words_and_hides_no_other_algorithm(
    monkeypatch: pytest.MonkeyPatch, module: Any, reason: str
) -> None:
    class Entry:
        def load(self) -> Any:
            if isinstance(module, BaseException):
                raise module
            return module

    monkeypatch.setattr(algorithms.PLUGINS, "installed", {"broken": Entry()})
    with pytest.raises(BrokenPlugin, match=re.escape(reason)):
        algorithms.find("broken")
    with pytest.raises(ValidationError, match="'broken' is installed but cannot be used: " + re.escape(reason)):
        AlgorithmSection(name="broken")
    assert [each.name for each in algorithms.usable()] == sorted(algorithms.bundled())
    assert "broken" in algorithms.names()


def test_yogi_follows_the_sign_of_the_difference_and_stays_where_there_is_none() -> None:
    """v − (1 − β₂) m² sign(v − m²), with v above, below and at m², and where both are zero."""
    algorithm = algorithms.find("fedyogi")
    server = algorithm.server(algorithm.params(tau=0.5, beta1=0.0, beta2=0.75))
    m = np.float32([0.5, 2.0, -2.0, -0.25, 0.0, 1.0])
    v = np.float32([1.0, 1.0, 4.0, 0.0625, 0.0, 0.0])
    state = {"m": np.zeros(6, np.float32), "v": v}
    server.aggregate(np.zeros(6, np.float32), updates([m], [1.0]), state, first=False)
    np.testing.assert_array_equal(state["m"], m)
    np.testing.assert_array_equal(state["v"], v - np.float32(0.25) * m * m * np.sign(v - m * m))
    assert list(state["v"]) == [0.9375, 2.0, 4.0, 0.0625, 0.0, 0.25]
