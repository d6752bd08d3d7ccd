"""The interface of a federated algorithm: a server half in numpy and a client half for torch tensors or numpy arrays.

Each algorithm is one module with three classes, ``Params``, ``Server`` and ``Client``; its docstring cites the paper.
``shared.algorithms.find`` loads it by name. Neither half imports torch: the client half uses only methods that numpy
arrays and torch tensors share.

The server half works on **one part at a time**, by default one tensor, so aggregation streams: its memory is a few of
the largest part, independent of the number of clients and the size of the model. Three methods can be overridden, each
with a wider view than the one before:

    aggregate          one tensor: its updates and its state (FedAvg and all the other bundled algorithms)
    combine, parts     tensors that belong together, such as the two factors of a module, by name
    measure            a first pass over all parts, for what depends on whole updates, such as their norms

An ``aggregate`` that treats each element by itself says so (``elementwise``). Aggregation then cuts the tensors into
blocks, and works on several at a time.

An algorithm may need further tensors beside the adapter, and declares them as slots. A slot holds one float32 tensor
for every trained tensor of the adapter.

    Server.state       stored by the coordinator from round to round (a momentum, a control variate)
    Server.broadcast   the part of the state that clients receive with the global adapter
    Client.extras      uploaded with the delta
    Client.state       stored by the client and never uploaded. It is committed when the client's update is aggregated,
                       and read in the next round in which the client trains.

A tensor of the server's slots has the shape of the global tensor, or the one that ``ServerHalf.slot_shape`` returns. A
tensor of the client's slots has the shape of the client's own tensor, which is smaller than the global one if the
client trains a smaller rank (``ServerHalf.mixes_ranks``).

Symbols: x the global adapter; Δ_k = w_k − x the delta of client k; p_k the client's weight, normalised over the round's
updates; q_k the same, normalised over all clients of the campaign; Δ = Σ p_k Δ_k.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from types import MappingProxyType
from typing import Any, ClassVar, Generic, SupportsIndex, TypeVar, final, overload

import numpy as np
from numpy.typing import NDArray

from shared.adapters.files import MAX_DIMENSIONS, AdapterError, Contract, TensorSpec, slot_name
from shared.adapters.scratch import BLOCK_VALUES, scratch
from shared.campaign.sections import Section

Array = NDArray[np.float32]
Slots = Mapping[str, Mapping[str, Any]]
"""Slot to tensor name to tensor."""
_NOTHING: Slots = MappingProxyType({})
_ELEMENTWISE = "elementwise"
"""The attribute that ``elementwise`` gives a method: the method itself, since ``functools.wraps`` copies attributes."""


class AlgorithmParams(Section):
    """Base class of an algorithm's parameters in the campaign file."""

    @property
    def pull(self) -> float:
        """How strongly each step of a client pulls its weights back to where the round began, beside the weight decay.

        Times the learning rate, it is the share of the earlier steps that a step undoes. Owners' agents refuse a
        campaign in which little remains of them.
        """
        return 0.0


P = TypeVar("P", bound=AlgorithmParams)
F = TypeVar("F", bound=Callable[..., Array])


@dataclass(frozen=True)
class UpdateTensor:
    """One client's update of one adapter tensor.

    Args:
        p, q: the client's weight in this round and in the campaign.
        shape: of the client's own tensor: the adapter tensor's, or that at a smaller rank.
        read: returns the tensor of a slot, ``"delta"`` or one of the algorithm's extras, with this shape.
    """

    p: float
    q: float
    shape: tuple[int, ...]
    read: Callable[[str], Array]


class Updates(Sequence[UpdateTensor]):
    """All updates of one round for one adapter tensor, in the order of client numbers.

    name, shape: the adapter tensor's.
    """

    def __init__(self, updates: Sequence[UpdateTensor], name: str, shape: tuple[int, ...]) -> None:
        self._updates = updates
        self._name = name
        self._shape = shape

    @overload
    def __getitem__(self, at: SupportsIndex) -> UpdateTensor: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[UpdateTensor]: ...
    def __getitem__(self, at: SupportsIndex | slice) -> UpdateTensor | Sequence[UpdateTensor]:
        return self._updates[at] if isinstance(at, slice) else self._updates[index(at)]

    def __len__(self) -> int:
        return len(self._updates)

    def mean_delta(self) -> Array:
        """Return Δ = Σ p_k Δ_k, float32, with the tensor's shape. Raises AdapterError if an update has another one."""
        return self._sum(lambda update: update.p, "delta")

    def sum_in_campaign(self, slot: str) -> Array:
        """Return Σ_{k in round} q_k e_k of an extra e, float32, with the tensor's shape. Absent clients add nothing.

        Raises AdapterError if an update has another shape.
        """
        return self._sum(lambda update: update.q, slot)

    def _sum(self, weight: Callable[[UpdateTensor], float], slot: str) -> Array:
        if others := {update.shape for update in self._updates} - {self._shape}:
            shapes = ", ".join(str(list(shape)) for shape in sorted({*others, self._shape}))
            raise AdapterError(f"has updates of several shapes, which have no sum ({shapes})", self._name)
        terms = [(weight(update), update.read(slot).reshape(-1)) for update in self._updates]
        n_values = math.prod(self._shape)
        if n_values <= BLOCK_VALUES:
            return _weighted_sum(terms).reshape(self._shape)
        total = np.empty(n_values, dtype=np.float32)
        for begin in range(0, n_values, BLOCK_VALUES):
            block = slice(begin, begin + BLOCK_VALUES)
            total[block] = _weighted_sum([(factor, values[block]) for factor, values in terms])
        return total.reshape(self._shape)


def _weighted_sum(terms: Sequence[tuple[float, Array]]) -> Array:
    """Σ p_k x_k in the order of the terms, (n,).

    In float64: in float32 small clients are rounded away, and the mean of K equal deltas is not that delta. Each step
    is rounded by itself. Values are converted apart from the arithmetic: numpy takes longer for mixed types.
    A BLAS would be faster still, but its order and its rounding depend on the processor.
    """
    (factor, values), *others = terms
    total, term = scratch(values.size)
    np.copyto(total, values)
    total *= factor
    for factor, values in others:
        np.copyto(term, values)
        term *= factor
        total += term
    return total.astype(np.float32)


@dataclass(frozen=True)
class RoundFacts:
    """The round, as a server half may know it.

    Args:
        number: the round, from 1.
        seed: the campaign's. It is public, so it must not seed the noise of a privacy mechanism.
        scale: α / r, the factor of the product B A.
        first: whether the state is the initial one. It is in the campaign's first round, and after a client lost its
            client state, which restarts the algorithm.
    """

    number: int
    seed: int
    scale: float
    first: bool


@dataclass(frozen=True)
class Part:
    """Tensors that are aggregated together, by name.

    Args:
        x: the global tensors, read-only.
        updates: the round's updates of each tensor. Their shapes are those of x, unless the algorithm mixes ranks.
        state: slot to tensor, for each name; the shapes are those of x, unless ``slot_shape`` gives others. Assign the
            new values: ``part.state[name]["m"] = ...``.
    """

    x: Mapping[str, Array]
    updates: Mapping[str, Updates]
    state: Mapping[str, dict[str, Array]]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self.x)


def elementwise(aggregate: F) -> F:
    """Declare that an ``aggregate`` computes each element of its result and of the state from that element alone.

    Aggregation may then call it for blocks of one dimension, each a range of the elements of one or several tensors,
    in any order and from several threads at the same time. The state is then read-only. So it stores nothing on self,
    and ``initial_state`` gives every element the same value. A method that overrides it is not elementwise until it is
    declared so too.
    """
    vars(aggregate)[_ELEMENTWISE] = aggregate
    return aggregate


class ServerHalf(Generic[P]):
    """Turns a round's updates into the next global adapter, one part at a time. One instance serves one round.

    A server half defines ``aggregate`` or ``combine``.
    """

    state: ClassVar[tuple[str, ...]] = ()
    broadcast: ClassVar[tuple[str, ...]] = ()
    client_sums: ClassVar[tuple[str, ...]] = ()
    """State slots that equal Σ q_k c_k over a client state c_k. When clients join, with c_k = 0, every q_k shrinks, so
    the coordinator scales these slots down by the same factor."""
    mixes_ranks: ClassVar[bool] = False
    """Whether clients may train a smaller rank than the campaign's. Such a client starts from the first components of
    the global adapter, at the campaign's scale α / r, and its updates have its own shapes (``UpdateTensor.shape``)."""
    exact_updates: ClassVar[bool] = False
    """Whether it needs updates and extras exactly as its clients computed them. Otherwise a campaign may have them
    rounded on their way (its ``wire``): then a client sends what it computed plus what rounding took from its last
    update that counted."""

    def __init__(self, params: P) -> None:
        self.params = params

    def slot_shape(self, slot: str, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:  # noqa: ARG002
        """Return the shape of a state slot's tensor for the adapter tensor *name* of this shape; the same by default.

        Agents call it too, to check a broadcast. It may depend on the parameters, not on the round.
        """
        return shape

    @final
    def slot_contract(self, slots: Iterable[str], adapter: Contract) -> Contract:
        """The contract of a file with slots of the state.

        adapter: the trained tensors at the campaign's rank. Raises AdapterError if no file can hold a slot's shape.
        """
        tensors = {}
        for slot in slots:
            for name, spec in adapter.tensors.items():
                shape = tuple(index(size) for size in self.slot_shape(slot, name, spec.shape))
                if len(shape) > MAX_DIMENSIONS or any(size < 1 for size in shape):
                    reason = f"shape {list(shape)} has more than {MAX_DIMENSIONS} dimensions or one below 1"
                    raise AdapterError(reason, slot_name(slot, name))
                tensors[slot_name(slot, name)] = TensorSpec("F32", shape)
        return Contract.of(tensors)

    def initial_state(self, slot: str, shape: tuple[int, ...]) -> Array:  # noqa: ARG002
        """Return a slot's state before the first round; zeros by default. shape: the slot's, see ``slot_shape``."""
        return np.zeros(shape, dtype=np.float32)

    def parts(self, names: Sequence[str]) -> Sequence[Sequence[str]]:
        """Divide the trained tensors into parts: each name in exactly one of them. Each tensor by itself by default."""
        return [(name,) for name in names]

    @final
    def divide(self, names: Sequence[str]) -> Sequence[Sequence[str]]:
        """``parts``, checked. Raises AdapterError unless each name is in exactly one part."""
        parts = self.parts(names)
        n_parts = Counter(name for part in parts for name in part)
        for name in names:
            if n_parts[name] != 1:
                raise AdapterError(f"the algorithm has it in {n_parts[name]} parts, not in one", name)
        if unknown := n_parts.keys() - set(names):
            raise AdapterError("the algorithm has it in a part, but clients do not train it", min(unknown))
        return parts

    @final
    def check_adapter(self, trained: Contract) -> None:
        """Raise AdapterError if this server half cannot aggregate adapters with these trained tensors."""
        self.divide(list(trained.tensors))
        self.slot_contract(self.state, trained)

    def measure(self, part: Part, facts: RoundFacts) -> None:
        """See a part of the round before the first one is combined. If a server half defines it, aggregation reads all
        updates twice. The part's tensors are gone after the call: store results, such as norms, and no tensors."""

    def combine(self, part: Part, facts: RoundFacts) -> Mapping[str, Array]:
        """Compute the next global tensors of a part, by name, with the shapes of ``part.x``."""
        return {
            name: self.aggregate(x, part.updates[name], part.state[name], first=facts.first)
            for name, x in part.x.items()
        }

    def aggregate(self, x: Array, updates: Updates, state: dict[str, Array], *, first: bool) -> Array:
        """Compute the next global tensor.

        Args:
            x: the global tensor, read-only.
            updates: the round's updates of this tensor.
            state: slot to tensor, each with x's shape or that of ``slot_shape``. Assign the new values:
                ``state["m"] = ...``.
            first: see ``RoundFacts.first``.

        Returns:
            The next global tensor, with x's shape.
        """
        raise NotImplementedError(f"{type(self).__qualname__} defines neither aggregate nor combine")


class ClientHalf(Generic[P]):
    """A client's additions to plain local training. One instance serves one task.

    ``broadcast`` maps slots to tensors by name; it is empty while the server's state is the initial one.
    ``client_state`` maps the slots of ``state`` to tensors by name, as this client's last committed update left them.
    It is empty if there is none. ``anchor`` is the tensor that the round started from: the global one, or its first
    components if the client trains a smaller rank. All tensors passed to one call are float32 and have the same shape:
    torch tensors at the agent, numpy arrays in the tests. An instance must not store anything between steps, since
    training may resume from a checkpoint in another process.
    """

    extras: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: P, broadcast: Slots, client_state: Slots = _NOTHING) -> None:
        self.params = params
        self.broadcast = broadcast
        self.client_state = client_state

    def extra_grad(self, name: str, w: Any, anchor: Any) -> Any:  # noqa: ARG002
        """Return a term to add to the gradient of w before an optimizer step, or None."""
        return None

    def after_step(self, name: str, w: Any, lr: float) -> None:  # noqa: ARG002
        """Correct w in place after an optimizer step with learning rate lr."""
        return

    def finish(self, name: str, w: Any, anchor: Any, lr: float, steps: int) -> dict[str, Any]:  # noqa: ARG002
        """Return one tensor's extras and new client state, slot to tensor.

        steps: optimizer steps actually done. lr: their mean learning rate, so that steps · lr is the sum of the rates.
        """
        return {}

    def finish_update(self, delta: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the update to upload, given all deltas by name: clip, quantise or mask them here. Called once, after
        ``finish``, which saw the tensors as training left them. Names and shapes must stay as they are. An algorithm
        that defines it gets updates exactly as it returns them (``Algorithm.needs_exact_updates``)."""
        return delta


class _Plain(ClientHalf[AlgorithmParams]):
    """A client half that adds nothing."""

    extras: ClassVar[tuple[str, ...]] = ()
    state: ClassVar[tuple[str, ...]] = ()


_NO_BEHAVIOUR = frozenset(vars(_Plain))
"""The attributes of a class that adds nothing; those that Python itself gives a class are among them."""


@dataclass(frozen=True)
class Algorithm:
    """A loaded algorithm."""

    name: str
    summary: str
    params: type[AlgorithmParams]
    server: type[ServerHalf[Any]]
    client: type[ClientHalf[Any]]

    def problem(self) -> str | None:
        """What in the classes breaks the interface; None if nothing does."""
        server = self.server
        if server.aggregate is ServerHalf.aggregate and server.combine is ServerHalf.combine:
            return "its Server defines neither aggregate nor combine"
        for attribute in ("broadcast", "client_sums"):
            if unknown := set(getattr(server, attribute)) - set(server.state):
                return f"its Server.{attribute} names {', '.join(sorted(unknown))}, which Server.state lacks"
        if "delta" in self.client.extras:
            return "its Client.extras names delta, which is the update itself"
        return None

    @property
    def is_elementwise(self) -> bool:
        """Whether aggregation may cut tensors into blocks: ``aggregate`` is ``elementwise``, and nothing else in the
        server half sees whole tensors."""
        server, whole = self.server, (ServerHalf.combine, ServerHalf.parts, ServerHalf.slot_shape)
        is_declared = getattr(server.aggregate, _ELEMENTWISE, None) is server.aggregate
        return is_declared and (server.combine, server.parts, server.slot_shape) == whole

    @property
    def measures(self) -> bool:
        """Whether the server half needs a first pass over the updates."""
        return self.server.measure is not ServerHalf.measure

    @property
    def needs_exact_updates(self) -> bool:
        """Whether nothing may round the updates: the server half says so, or the client half finishes whole updates.
        A bound or a mask that it puts on them would not survive rounding and its feedback."""
        return self.server.exact_updates or self.client.finish_update is not ClientHalf.finish_update

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
