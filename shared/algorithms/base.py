"""The interface of a federated algorithm: a server half in numpy and a client half on tensors that it is handed.

One module is one algorithm. It holds three classes, ``Params``, ``Server`` and ``Client``, and its docstring cites the
paper. ``shared.algorithms.find`` loads it by name. Neither half imports torch: the client half calls methods that
numpy arrays and torch tensors share.

The server half works on **one tensor at a time**, so that aggregation streams: its memory is a few tensors, whatever
the number of clients or the size of the model. Four kinds of tensors live beside the adapter, each declared by
slots (a slot holds one tensor for every trained tensor of the adapter, same shape, float32):

    Server.state       kept by the coordinator from round to round (a momentum, a control variate)
    Server.broadcast   the part of the state that clients receive with the global adapter
    Client.extras      what an update carries beside the delta
    Client.state       kept by the client, from a round that counted its update to the next one that it trains in; it
                       never leaves

Symbols: x the global adapter; Δ_k = w_k − x the delta of client k; p_k the client weights normalised over the round's
updates; q_k the same normalised over the whole campaign; Δ = Σ p_k Δ_k.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Array = NDArray[np.float32]
Slots = Mapping[str, Mapping[str, Any]]
"""Tensors by slot and by name."""
_NOTHING: Slots = MappingProxyType({})


class AlgorithmParams(BaseModel):
    """An algorithm's parameters, as the campaign file gives them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


P = TypeVar("P", bound=AlgorithmParams)


@dataclass(frozen=True)
class UpdateTensor:
    """One client's part of one tensor of the adapter.

    p, q: the client's weight in this round and in the campaign. read: the tensor of a slot, ``"delta"`` or one of the
    algorithm's extras, with the adapter tensor's shape.
    """

    p: float
    q: float
    read: Callable[[str], Array]


class Updates:
    """The updates of one round for one tensor of the adapter, in the order of client numbers."""

    def __init__(self, updates: Sequence[UpdateTensor], shape: tuple[int, ...]) -> None:
        self._updates = updates
        self._shape = shape

    def __iter__(self) -> Iterator[UpdateTensor]:
        return iter(self._updates)

    def __len__(self) -> int:
        return len(self._updates)

    def mean_delta(self) -> Array:
        """Δ = Σ p_k Δ_k, as float32 of the tensor's shape."""
        return self._sum(lambda update: update.p, "delta")

    def sum_in_campaign(self, slot: str) -> Array:
        """Σ_{k in round} q_k e_k over an extra, as float32 of the tensor's shape. Clients that sat out add nothing."""
        return self._sum(lambda update: update.q, slot)

    def _sum(self, weight: Callable[[UpdateTensor], float], slot: str) -> Array:
        # float64: float32 sums lose small clients, and K equal deltas would not give that delta back
        total = np.zeros(self._shape, dtype=np.float64)
        term = np.empty(self._shape, dtype=np.float64)
        for update in self._updates:
            np.multiply(update.read(slot), weight(update), out=term, dtype=np.float64)
            total += term
        return total.astype(np.float32)


class ServerHalf(ABC, Generic[P]):
    """Turns a round's updates into the next global adapter, one tensor at a time."""

    state: ClassVar[tuple[str, ...]] = ()
    broadcast: ClassVar[tuple[str, ...]] = ()
    client_sums: ClassVar[tuple[str, ...]] = ()
    """The slots of the state that are Σ q_k c_k over what the clients keep. When clients join, whose c_k is zero, every
    q_k shrinks, and these with them."""

    def __init__(self, params: P) -> None:
        self.params = params

    def initial_state(self, slot: str, shape: tuple[int, ...]) -> Array:  # noqa: ARG002
        """The state before the first round, zeros unless the algorithm says otherwise."""
        return np.zeros(shape, dtype=np.float32)

    @abstractmethod
    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        """Return the next global tensor.

        x: the global tensor, read-only. state: slot to tensor of x's shape, to be replaced in place of its old values
        (``state["m"] = ...``). first: whether the state is the initial one: in the campaign's first round, and after a
        client lost what it kept, when all start again.
        """


class ClientHalf(Generic[P]):
    """What a client does during local training beyond plain steps. One instance lives for one task.

    ``broadcast`` maps slots to tensors by name, and is empty while the server's state is the initial one.
    ``client_state`` maps the slots of ``state`` likewise to what this client's last committed update left there, and
    is empty where there was none. ``anchor`` is the global tensor that the round started from. All tensors that it is
    handed are float32 and of one shape: torch tensors at the agent, numpy arrays in the tests. An instance keeps
    nothing between steps but what it was made with: training may go on from a checkpoint, in another process.
    """

    extras: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: P, broadcast: Slots, client_state: Slots = _NOTHING) -> None:
        self.params = params
        self.broadcast = broadcast
        self.client_state = client_state

    def extra_grad(self, name: str, w: Any, anchor: Any) -> Any:  # noqa: ARG002
        """A term to add to the gradient of w before each optimizer step, or None."""
        return None

    def after_step(self, name: str, w: Any, lr: float) -> None:  # noqa: ARG002
        """Correct w in place after an optimizer step with learning rate lr."""
        return

    def finish(self, name: str, w: Any, anchor: Any, lr: float, steps: int) -> dict[str, Any]:  # noqa: ARG002
        """The update's extras and what is kept, for one tensor, slot to tensor, after the steps really done."""
        return {}


class _Plain(ClientHalf[AlgorithmParams]):
    """A client half that adds nothing."""

    extras: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ()


_NO_BEHAVIOUR = frozenset(vars(_Plain))
"""The attributes of a class that adds nothing; those that Python itself gives a class are among them."""


@dataclass(frozen=True)
class Algorithm:
    """An algorithm found by its name."""

    name: str
    summary: str
    params: type[AlgorithmParams]
    server: type[ServerHalf[Any]]
    client: type[ClientHalf[Any]]

    @property
    def has_plain_client(self) -> bool:
        """Whether ClientHalf itself can stand in for the client half, so that agents do not need the algorithm.

        This is so if the client half defines nothing beyond ClientHalf and the server half broadcasts nothing. A
        further attribute counts as an addition, even if nothing uses it.
        """
        if self.server.broadcast or self.client.extras or self.client.state or type(self.client) is not type(_Plain):
            return False
        added = (parent for parent in self.client.__mro__ if parent not in ClientHalf.__mro__)
        return all(vars(parent).keys() <= _NO_BEHAVIOUR for parent in added)
