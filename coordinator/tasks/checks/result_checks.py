"""Checks of what a result declares: an agent's rank, precision and rows, and the loss of its client state."""

from coordinator.errors import BadUpdate, Invalid
from coordinator.tasks.facts import CampaignFacts, ParticipantFacts
from shared import algorithms
from shared.campaign.spec import too_many_rows
from shared.wire.tasks.results import PrepareResult, TrainResult


def check_prepared(campaign: CampaignFacts, result: PrepareResult) -> None:
    """Raise Invalid unless the agent may train the rank and in the precision that it answers, and a round of its rows
    can be counted.
    """
    spec = campaign.spec
    if result.rank > spec.lora.rank:
        raise Invalid(("rank", f"{result.rank} is above {spec.lora.rank}, the rank of the campaign's adapter"))
    if result.rank < spec.lora.rank and not algorithms.find(spec.algorithm.name).server.mixes_ranks:
        needed = f"{spec.algorithm.name} needs {spec.lora.rank}, the rank of the campaign's adapter, from every client"
        raise Invalid(("rank", f"{result.rank} is too small: {needed}"))
    asked = spec.base.cpu_dtype
    if result.cpu_dtype is not None and asked not in ("auto", result.cpu_dtype):
        raise Invalid(("cpu_dtype", f"{result.cpu_dtype} is not {asked}, which the campaign's base.cpu_dtype asks for"))
    steps = spec.training.steps_for(result.n_train)
    if reason := too_many_rows(steps, spec.training.batch_size):
        raise Invalid(("n_train", f"with {result.n_train:,} rows, {reason}"))


def check_against_algorithm(campaign: CampaignFacts, participant: ParticipantFacts, result: TrainResult) -> None:
    """Raise BadUpdate if an update contradicts the campaign's algorithm.

    It does if it lacks required extras, or reports the loss of client state that its client cannot have lost.
    """
    name = campaign.spec.algorithm.name
    client = algorithms.find(name).client
    if result.extras is None and client.extras:
        raise BadUpdate(f"{name} needs the extras {', '.join(client.extras)}, but the update has none")
    if not result.client_state_lost:
        return
    if not client.state:
        raise BadUpdate(f"the update reports lost client state, but {name} has no client state")
    if participant.committed_update_sha256 is None:
        message = "the update reports lost client state, but its task named none: no update of this client has counted"
        raise BadUpdate(f"{message} since {name} began")
    if participant.lost_state_in is not None:
        raise BadUpdate(
            f"this client reports lost client state for the second time (the first was in round "
            f"{participant.lost_state_in}). {name} restarts for all clients then, which it does once for each client, "
            "so this client's updates no longer count: restore the agent's home, or enrol the agent anew"
        )
