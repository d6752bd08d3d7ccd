"""Views of campaigns, rounds, tasks and participants for operators."""

from datetime import datetime
from enum import StrEnum

from shared.bounds import Count
from shared.campaign.spec import CampaignSpec, CpuDtype
from shared.metrics import Metric, ReportLevel, Values
from shared.states import CampaignState, EvaluationState, ParticipantState, RoundState, TaskKind, TaskState
from shared.wire.adapters import Origin
from shared.wire.base import Reply, Request, Sha256
from shared.wire.tasks.leases import Failure, Progress
from shared.wire.tasks.results import Fingerprint


class ParticipantView(Reply):
    """An agent that takes part in a campaign."""

    agent_id: str
    agent_name: str
    state: ParticipantState
    client_number: int | None
    """Fixed when the agent becomes a client; null before."""
    n_train: int | None
    """Training rows; null until the agent is prepared."""
    n_held_out: int | None
    """Rows for evaluation; null until the agent is prepared."""
    rank: int | None
    """Rank that the agent trains; null until the agent is prepared."""
    cpu_dtype: CpuDtype | None = None
    """Precision of the base model in the agent's work on a CPU, as it was decided when the agent prepared; null before,
    and if it prepared on another device."""
    reason: str | None = None
    """What its owner said, or why the agent failed to prepare or does not match. Of a prepared one: what of its rows or
    of the base model is not trained on, and whether it outweighs all other clients."""
    joined_round: int | None = None
    """First round in which the client can be drawn."""
    failures_in_a_row: int = 0
    """Consecutive rounds that the client failed or whose deadline it missed."""
    set_aside_until: int | None = None
    """Last round for which the client is not drawn, after too many failures in a row."""
    report: ReportLevel | None = None
    """What the owner lets out of what is measured on its rows; null until the agent is prepared."""
    evaluates: bool | None = None
    """Whether the owner lets the agent evaluate adapters; null until the agent is prepared."""
    benchmarks: list[str] = []
    """The campaign's benchmarks that it runs, by its owner's `policy.suites` and the data that it has."""
    away_since: datetime | None = None
    """Time of the last request of an agent that missed several of its usual ones; null if it is there or revoked."""
    revoked: bool = False
    """Whether the agent was revoked: it gets no more tasks, whatever its state."""


class CampaignView(Reply):
    """A campaign."""

    id: str
    name: str
    state: CampaignState
    reason: str | None
    """Why the campaign is paused, what it waits for, or why it ended before its last round."""
    rounds_closed: int
    rounds: int
    created_at: datetime
    ended_at: datetime | None
    final_adapter: int | None
    """Number of the last adapter; null until the campaign is over."""
    best_adapter: int | None
    """Number of the best adapter by ``evaluation.best``; null if none was evaluated by it."""


class StopView(Reply):
    """How the rule stands that ends a campaign early, `evaluation.stop`."""

    metric: str
    """The metric that decides."""
    best_adapter: int
    """Number of the adapter with the best value so far, as the rule counts: smaller improvements than `min_delta` are
    none."""
    best_value: float
    """That value."""
    waited: int
    """Evaluations since without an improvement; the campaign ends at `patience` of them."""


class CampaignDetail(CampaignView):
    """A campaign with its file and its participants."""

    spec: CampaignSpec
    spec_sha256: Sha256
    """Digest of the whole specification: what each owner accepts, and can compare with others."""
    participants: list[ParticipantView]
    fingerprint: Fingerprint | None = None
    """Fingerprint of the base model that the clients train on; null until it is settled."""
    metrics: list[Metric]
    """What the campaign's metrics are: title, unit, direction, weight."""
    stop: StopView | None = None
    """How `evaluation.stop` stands; null without it, and before an adapter has its metric."""
    origins: list[Origin] = []
    """The adapter that the campaign started from, the one that its campaign started from, and so on."""


class RollbackRequest(Request):
    """Takes a campaign back to its state after a round."""

    round: Count
    """The round to return to; 0 is the initial adapter."""


class RoundView(Reply):
    """A round and its clients."""

    number: int
    state: RoundState
    opened_at: datetime
    deadline_at: datetime
    closed_at: datetime | None
    learning_rate: float
    eligible: list[int]
    """Numbers of the clients that could be drawn."""
    sampled: list[int]
    """Numbers of the clients that were drawn."""
    contributors: list[int]
    """Numbers of the clients whose updates were aggregated."""


class TaskView(Reply):
    """A task with its live progress."""

    id: str
    campaign_id: str
    agent_id: str
    agent_name: str
    kind: TaskKind
    state: TaskState
    round: int | None
    benchmarks: list[str] | None = None
    """Names of the benchmarks that a task of kind `benchmark` runs; null for other kinds."""
    attempt: int
    progress: Progress | None
    failure: Failure | None
    created_at: datetime
    ended_at: datetime | None


class ClientView(Reply):
    """A client with its share and its metrics, so that it shows who gains from the campaign and who loses.

    Metrics are by name; ``metrics`` of the campaign says what each is.
    """

    client_number: int
    agent_id: str
    agent_name: str
    state: ParticipantState
    n_train: int | None
    n_held_out: int | None
    report: ReportLevel | None
    evaluates: bool | None
    away_since: datetime | None
    update_round: int | None
    """Round for which its last aggregated update was trained; null before the first."""
    update_weight: float | None
    """Weight of that update in its round, whose weights sum to 1."""
    held_round: int | None = None
    """Round whose update its owner holds back; null if there is none."""
    training: Values
    """Metrics of that training. Those that the owner does not report are missing."""
    evaluation: EvaluationState
    """Its part in the evaluation of the newest evaluated adapter: what it is, if it has no metrics of it."""
    evaluation_failure: Failure | None
    """Why it failed in that evaluation."""
    evaluated_adapter: int | None
    """Number of the newest adapter that it evaluated; null if there is none."""
    held_out: Values
    """Metrics of that adapter on its held-out rows."""
    base: Values
    """The same metrics of adapter 0: the base model, or what the campaign started from."""
    worse_than_base: bool | None
    """Whether its held-out loss is higher than that of adapter 0, to four decimal places; null if one is missing."""


class MetricScope(StrEnum):
    """What a value of a metric is of."""

    CLIENT = "client"
    ROUND = "round"


class MetricView(Reply):
    """One value of a metric."""

    round: int
    name: str
    value: float
    unit: str
    """Unit of the value; empty for a plain number."""
    client_number: int | None
    """The client that reported it; null for a metric of the whole round."""
    agent_name: str | None
    n_clients: int | None
    """How many clients' values a mean is over; null for what is no mean."""
    of_clients: int | None
    """How many clients took part: those whose updates were aggregated, or of an evaluation all of the campaign's."""
    at: datetime
    """When it was recorded."""
