"""Aggregation: streams a round's updates through the algorithm's server half, part by part.

Memory is a few of the largest part, by default a tensor, independent of the number of clients: deltas are read through
memory maps, in the order of client numbers, and each result is written at once. The same updates give the same bytes on
every machine.
"""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from coordinator.engine.aggregation.factor_gap import FactorGap, factor_gap
from coordinator.engine.aggregation.files import ClientUpdate, InputFiles, OutputFiles, open_clients, open_outputs
from coordinator.errors import AlgorithmFailed
from shared import crash_points
from shared.adapters.files import AdapterError, AdapterFile, Array, check_finite, slot_name
from shared.adapters.lora import trained
from shared.algorithms import Algorithm, AlgorithmParams, Part, RoundFacts
from shared.campaign.spec import LoraSection

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Aggregated:
    """The result of a round.

    Args:
        adapter: the next global adapter.
        broadcast, state: None if the algorithm has none.
        update_norm: ‖x⁺ − x‖₂ over all tensors.
        factor_gap: the cost of averaging A and B separately; None unless it was measured.
    """

    adapter: Path
    broadcast: Path | None
    state: Path | None
    update_norm: float
    factor_gap: FactorGap | None


def aggregate(
    algorithm: Algorithm,
    params: AlgorithmParams,
    parent: Path,
    state: Path | None,
    updates: Sequence[ClientUpdate],
    out: Path,
    *,
    facts: RoundFacts,
    lora: LoraSection,
    membership_scale: float = 1.0,
    measures_gap: bool = False,
) -> Aggregated:
    """Compute the next global adapter from its parent, the server's state and the updates, as files in *out*.

    Tensors that the clients do not train stay as they are. Runs in a thread.

    Args:
        algorithm, params: the algorithm whose server half aggregates.
        parent: the global adapter that the round started from.
        state: the server's state after the last round; None if there is none yet.
        updates: the round's updates, in any order.
        out: an empty folder.
        facts: passed to the server half.
        lora: the campaign's section.
        membership_scale: factor for the algorithm's sums over all clients, below 1 if clients joined.
        measures_gap: whether to measure the factor gap too. It is defined for updates of one rank only.

    Raises OSError, AdapterError if a file is not what it was checked to be or if the result is not finite, and
    AlgorithmFailed if the server half raises an error, or does not return exactly the tensors of a part.
    """
    with _calling(algorithm):
        server = algorithm.server(params)
    squared_norm = 0.0
    with ExitStack() as stack:
        x_file = stack.enter_context(AdapterFile(parent))
        contract = x_file.contract
        changing = trained(contract, lora)
        state_file = stack.enter_context(AdapterFile(state)) if state is not None else None
        clients = open_clients(stack, updates)
        inputs = InputFiles(server, x_file, state_file, clients, membership_scale)
        with _calling(algorithm):
            outputs = open_outputs(stack, out, server, contract, changing)
        for name in contract.tensors.keys() - changing.tensors.keys():
            outputs.adapter.write(name, x_file.read(name))
        with _calling(algorithm):
            parts = server.divide(list(changing.tensors))
        if algorithm.measures:
            for names in parts:
                with _calling(algorithm):
                    server.measure(inputs.part(names), facts)
        for names in parts:
            with _calling(algorithm):
                part = inputs.part(names)
                combined = server.combine(part, facts)
                if combined.keys() != part.x.keys():
                    raise AdapterError(f"it returned {sorted(combined)} for the part {list(names)}")
            squared_norm += _write(part, combined, outputs)
            crash_points.reach("aggregation: part written")
        gap = None
        if measures_gap and all(each.has_shapes_of(changing) for each in clients):
            gap = factor_gap(x_file, [(each.p, each.delta) for each in clients], facts.scale)
    return Aggregated(outputs.adapter_path, outputs.broadcast_path, outputs.state_path, math.sqrt(squared_norm), gap)


@contextmanager
def _calling(algorithm: Algorithm) -> Iterator[None]:
    """Raise AlgorithmFailed if the block, which calls the server half, raises an error of it."""
    try:
        yield
    except (MemoryError, OSError):  # not the algorithm's: the engine tries again
        raise
    except AdapterError as error:
        raise AlgorithmFailed(algorithm.name, str(error)) from error
    except Exception as error:
        log.exception("the algorithm %s failed", algorithm.name)
        raise AlgorithmFailed(algorithm.name, f"{type(error).__name__}; the log has the reason") from error


def _write(part: Part, combined: Mapping[str, Array], outputs: OutputFiles) -> float:
    """Write a part's results. Returns ‖x⁺ − x‖² over its tensors."""
    squared_norm = 0.0
    for name, x in part.x.items():
        x_next = _finite(name, combined[name])
        outputs.adapter.write(name, x_next)
        change = np.subtract(x_next, x, dtype=np.float64).reshape(-1)  # float64: squares may overflow float32
        squared_norm += float(np.dot(change, change))
        for selected, writer in outputs.slots:
            for slot in selected:
                slot_tensor = slot_name(slot, name)
                writer.write(slot_tensor, _finite(slot_tensor, part.state[name][slot]))
    return squared_norm


def _finite(name: str, values: Array) -> Array:
    """The values as float32. Raises AdapterError if one is not finite: finite updates may add up to infinity, and the
    result would spoil every later round."""
    with np.errstate(over="ignore"):
        as_float32 = np.asarray(values, dtype=np.float32)
    check_finite(name, as_float32)
    return as_float32
