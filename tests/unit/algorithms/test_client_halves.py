"""The client halves, with values worked by hand: SCAFFOLD's option II, FedProx's term, and the plain ones."""

from typing import Any

import numpy as np
import pytest

from shared import algorithms
from shared.algorithms import fedprox, scaffold

LR = 0.5
C = {"a": np.float32([0.25, -1.0]), "b": np.float32([[2.0]])}
C_K = {"a": np.float32([1.0, 0.5]), "b": np.float32([[-4.0]])}
BROADCAST, CLIENT_STATE = {"c": C}, {"c_k": C_K}


def make(broadcast: Any = None, client_state: Any = None) -> scaffold.Client:
    return scaffold.Client(scaffold.Params(), broadcast or {}, client_state or {})


def corrected(client: scaffold.Client, name: str, start: list[Any]) -> list[Any]:
    """*start* after one step's correction."""
    w = np.float32(start)
    assert client.after_step(name, w, LR) is None
    return w.tolist()


def test_scaffold_corrects_a_step_by_c_and_c_k_of_the_same_tensor() -> None:
    client = make(BROADCAST, CLIENT_STATE)
    # w − ½ (c − c_k), with c − c_k = (−0.75, −1.5) for a and 6 for b
    assert corrected(client, "a", [1.0, 1.0]) == [1.375, 1.75]
    assert corrected(client, "b", [[1.0]]) == [[-2.0]]


def test_scaffold_corrects_by_c_or_c_k_alone_or_by_neither() -> None:
    assert corrected(make(), "a", [1.0, 1.0]) == [1.0, 1.0]
    assert corrected(make(broadcast=BROADCAST), "a", [1.0, 1.0]) == [0.875, 1.5]
    assert corrected(make(client_state=CLIENT_STATE), "a", [1.0, 1.0]) == [1.5, 1.25]


def test_a_correction_changes_neither_c_nor_the_clients_own() -> None:
    before = [values.copy() for values in (C["a"], C_K["a"])]
    corrected(make(BROADCAST, CLIENT_STATE), "a", [1.0, 1.0])
    np.testing.assert_array_equal([C["a"], C_K["a"]], before)


@pytest.mark.parametrize(
    ("broadcast", "client_state", "delta_c", "c_k"),
    [
        # (x − w) / (S lr) = (2, −4) / (4 · ½) = (1, −2)
        (None, None, [1.0, -2.0], [1.0, -2.0]),  # c_k⁺ = 0 − 0 + (1, −2)
        (BROADCAST, None, [0.75, -1.0], [0.75, -1.0]),  # c_k⁺ = 0 − c + (1, −2): the first round of this client
        (BROADCAST, CLIENT_STATE, [0.75, -1.0], [1.75, -0.5]),  # c_k⁺ = c_k − c + (1, −2)
    ],
)
def test_scaffold_computes_its_control_variate_by_option_two(
    broadcast: Any, client_state: Any, delta_c: list[float], c_k: list[float]
) -> None:
    x, w = np.float32([3.0, 0.0]), np.float32([1.0, 4.0])
    made = make(broadcast, client_state).finish("a", w, x, LR, steps=4)
    assert {slot: values.tolist() for slot, values in made.items()} == {"delta_c": delta_c, "c_k": c_k}
    assert {values.dtype for values in made.values()} == {np.dtype(np.float32)}
    assert (x.tolist(), w.tolist()) == ([3.0, 0.0], [1.0, 4.0])


def test_the_new_control_variate_is_the_mean_gradient_of_the_steps() -> None:
    """Option II: with steps w ← w − lr (g + c − c_k), c_k⁺ = c_k − c + (x − w)/(S lr) is the mean of g."""
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((7, 2)).astype(np.float32)
    client, x = make(BROADCAST, CLIENT_STATE), np.float32([0.5, -0.5])
    w = x.copy()
    for gradient in gradients:
        w -= np.float32(LR) * gradient
        client.after_step("a", w, LR)
    made = client.finish("a", w, x, LR, steps=7)
    np.testing.assert_allclose(made["c_k"], gradients.mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(made["delta_c"], gradients.mean(axis=0) - C_K["a"], atol=1e-6)


@pytest.mark.parametrize(("client_state", "c_k"), [(None, [0.0, 0.0]), (CLIENT_STATE, [1.0, 0.5])])
def test_without_a_step_scaffold_keeps_its_state_and_does_not_divide_by_zero(
    client_state: Any, c_k: list[float]
) -> None:
    x = np.float32([3.0, 0.0])
    with np.errstate(all="raise"):
        made = make(BROADCAST, client_state).finish("a", x.copy(), x, LR, steps=0)
    assert {slot: values.tolist() for slot, values in made.items()} == {"delta_c": [0.0, 0.0], "c_k": c_k}


def test_fedprox_pulls_back_to_the_global_adapter() -> None:
    client = fedprox.Client(fedprox.Params(mu=0.5), {})
    w, x = np.float32([3.0, -1.0]), np.float32([1.0, 1.0])
    term = client.extra_grad("a", w, x)
    assert (term.tolist(), term.dtype) == ([1.0, -1.0], np.float32)
    assert (w.tolist(), x.tolist()) == ([3.0, -1.0], [1.0, 1.0])
    assert not fedprox.Client(fedprox.Params(mu=0), {}).extra_grad("a", w, x).any()


@pytest.mark.parametrize("name", sorted(algorithms.bundled() - {"scaffold"}))
def test_the_others_correct_no_step_and_have_no_client_state(name: str) -> None:
    algorithm = algorithms.find(name)
    client = algorithm.client(algorithm.params(), {})
    w = np.float32([1.0, 2.0])
    client.after_step("a", w, LR)
    assert w.tolist() == [1.0, 2.0]
    assert client.finish("a", w, w, LR, 3) == {}
    assert (algorithm.client.extras, algorithm.client.state, algorithm.server.broadcast) == ((), (), ())
    assert (client.extra_grad("a", w, w) is None) == (name != "fedprox")
