"""Assignments: what the coordinator asks an agent to do.

An assignment names the campaign, the digest of its specification, the round and the files. Everything else (the model,
the rows, the steps, the seed) the agent derives from the specification that its owner accepted, so nothing else can be
asked.
"""

from datetime import date
from typing import Annotated, ClassVar, Literal

from pydantic import ConfigDict, Field

from shared.bounds import Bounded, Count
from shared.campaign.evaluation import MAX_BENCHMARKS, BenchmarkName
from shared.campaign.sections import Section
from shared.campaign.spec import CampaignSpec, Name
from shared.wire.base import BlobRef, Id, Sha256
from shared.wire.tasks.results import Fingerprint

MAX_NAMED = 50
"""The most participants that an assignment names."""


class AssignmentBase(Bounded):
    """The fields that every assignment has. The agent believes no text and no number of them beyond these bounds."""

    model_config = ConfigDict(extra="ignore")

    campaign_id: Id
    spec_sha256: Sha256
    """Digest of the whole specification and the campaign's day. The owner accepted exactly this one."""


class PrepareAssignment(AssignmentBase):
    """Accept the campaign, fetch and fingerprint its base model, tokenise and count the rows."""

    _keep: ClassVar[str] = Section._keep  # a campaign file's parameters may be texts of several lines

    kind: Literal["prepare"] = "prepare"
    spec: CampaignSpec
    """The whole specification."""
    created_on: date
    """The day on which the campaign was created (UTC): the date that templates see at every owner, in every round."""
    plain_client: bool
    """Whether the algorithm's client half is plain local training, which needs no plug-in at the agent."""
    mixes_ranks: bool
    """Whether the agent may train a smaller rank than the campaign's."""
    participants: Annotated[list[Name], Field(max_length=MAX_NAMED)]
    """Names of the agents that take part so far, this one included, in alphabetical order; of many, the first ones."""
    n_participants: Count
    """How many take part so far, by the coordinator's word."""


class InitAssignment(AssignmentBase):
    """Build adapter 0 from the seed and upload it."""

    kind: Literal["init"] = "init"
    fingerprint: Fingerprint


class TrainAssignment(AssignmentBase):
    """Fine-tune the global adapter on the agent's own rows and upload the delta."""

    kind: Literal["train"] = "train"
    fingerprint: Fingerprint
    round: Annotated[Count, Field(ge=1)]
    history: Count
    """Number of the campaign's history. It rises when the campaign is rolled back, or restored from a backup: only then
    may a round begin again, from another adapter."""
    client_number: Count
    n_clients: Count
    """Clients of the campaign, by the coordinator's word."""
    n_in_round: Count
    """Clients that were drawn for the round, by the coordinator's word."""
    adapter: BlobRef
    """The global adapter that the round starts from."""
    reference: BlobRef | None = None
    """The adapter of the reference model, if the kind has one; null means the bare base model."""
    broadcast: BlobRef | None = None
    """The algorithm's broadcast; null if it has none, or while its state is the initial one."""
    committed_update: Sha256 | None = None
    """Digest of this client's last aggregated delta in this history, as it was sent. It names the client state to
    continue from, and what rounding took from that delta. Null if none was aggregated yet, or the algorithm
    restarts."""


class EvaluateAssignment(AssignmentBase):
    """Compute the held-out metrics of a global adapter."""

    kind: Literal["evaluate"] = "evaluate"
    fingerprint: Fingerprint
    round: Count
    """The adapter's number."""
    history: Count
    """As in training: in another history, other adapters have the same numbers."""
    adapter: BlobRef
    reference: BlobRef | None = None
    """As in training."""


class BenchmarkAssignment(AssignmentBase):
    """Run public benchmarks on a global adapter. No row of the owner is read."""

    kind: Literal["benchmark"] = "benchmark"
    fingerprint: Fingerprint
    round: Count
    """The adapter's number."""
    history: Count
    """As in training."""
    adapter: BlobRef
    benchmarks: Annotated[list[BenchmarkName], Field(min_length=1, max_length=MAX_BENCHMARKS)]
    """Those of the campaign's that this agent offered to run, or some of them."""


Assignment = Annotated[
    PrepareAssignment | InitAssignment | TrainAssignment | EvaluateAssignment | BenchmarkAssignment,
    Field(discriminator="kind"),
]
