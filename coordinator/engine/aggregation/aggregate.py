"""Aggregation: streams a round's updates through the algorithm's server half.

Deltas are read through memory maps, in the order of client numbers, and each result is written at once, so memory is
independent of the number of clients. A server half that treats each element by itself gets blocks of the tensors, and
several threads work on them (``blocks``). Any other gets whole tensors, part by part (``parts``). The same updates give
the same bytes on every machine, with any number of threads.
"""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from coordinator.engine.aggregation.blocks import combine_blocks
from coordinator.engine.aggregation.calling import calling
from coordinator.engine.aggregation.factor_gap import FactorGap, factor_gap
from coordinator.engine.aggregation.files import ClientUpdate, InputFiles, open_clients, open_outputs
from coordinator.engine.aggregation.finite import with_update_named
from coordinator.engine.aggregation.parts import combine_parts, measure_parts
from shared.adapters.files import AdapterFile, NotFinite
from shared.adapters.lora import trained
from shared.algorithms import Algorithm, AlgorithmParams, RoundFacts
from shared.campaign.spec import LoraSection


@dataclass(frozen=True)
class Aggregated:
    """The result of a round.

    Args:
        adapter: the next global adapter.
        broadcast, state: None if the algorithm has none; the same file if all slots are broadcast.
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
    n_threads: int = 1,
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
        n_threads: threads that work at the same time.

    Raises OSError, AdapterError if a file is not what it was checked to be or if the result is not finite, and
    AlgorithmFailed if the server half raises an error, or does not return exactly the tensors of a part.
    """
    with calling(algorithm):
        server = algorithm.server(params)
    with ExitStack() as stack:
        x_file = stack.enter_context(AdapterFile(parent))
        contract = x_file.contract
        changing = trained(contract, lora)
        with calling(algorithm):
            of_state = server.slot_contract(server.state, changing)
            outputs = open_outputs(stack, out, server, contract, changing, of_state)
        state_file = stack.enter_context(AdapterFile(state, like=of_state)) if state is not None else None
        clients = open_clients(stack, updates, changing, changing.in_slots(algorithm.client.extras))
        inputs = InputFiles(server, x_file, changing, state_file, clients, membership_scale)
        for name in contract.tensors.keys() - changing.tensors.keys():
            outputs.adapter.write(name, x_file.read(name))
        measure_parts(algorithm, inputs, facts)
        try:
            if algorithm.is_elementwise and inputs.has_one_shape:
                squared_norm = combine_blocks(algorithm, inputs, outputs, facts, n_threads)
            else:
                squared_norm = combine_parts(algorithm, inputs, outputs, facts)
        except NotFinite as error:
            raise with_update_named(error, clients) from error
        gap = None
        if measures_gap and inputs.has_one_shape:
            deltas = [(each.p, each.delta) for each in clients]
            gap = factor_gap(x_file, deltas, facts.scale, n_threads=n_threads)
    return Aggregated(outputs.adapter_path, outputs.broadcast_path, outputs.state_path, math.sqrt(squared_norm), gap)
