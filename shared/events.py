"""The types of events that a campaign's log holds, and what each carries; ``docs/events.md`` documents them.

A key means the same in all types: ``agent`` and ``campaign`` are names, ``agent_id``, ``campaign_id`` and ``task_id``
ids, ``client``, ``round`` and ``adapter`` numbers, ``adapter_sha256`` a digest.
"""

from enum import StrEnum


class EventType(StrEnum):
    """What happened. The sentence below a type says when it is recorded; ``carries`` names the keys of its data."""

    carries: tuple[str, ...]

    def __new__(cls, value: str, *carries: str) -> "EventType":
        member = str.__new__(cls, value)
        member._value_ = value
        member.carries = carries
        return member

    CAMPAIGN_CREATED = "campaign-created", "name", "rounds"
    """The campaign was created."""
    CAMPAIGN_STARTS_FROM = "campaign-starts-from", "campaign", "campaign_id", "adapter", "adapter_sha256"
    """The campaign starts from the adapter of another one."""
    CAMPAIGN_MOVED = "campaign-moved", "before", "to", "reason"
    """The campaign changed its state; `reason` is null where the new state says it all."""
    CAMPAIGN_ENDS_EARLY = "campaign-ends-early", "round", "rounds", "dropped", "reason"
    """The campaign finishes after this round, by its operator or by its own rule, as `reason` says; `dropped` is
    an open round that had too few updates."""
    CAMPAIGN_ROLLED_BACK = "campaign-rolled-back", "round", "adapter_sha256", "undone"
    """The campaign goes on from an earlier round; `undone` lists the rounds that were undone."""
    ROUND_OPENED = "round-opened", "round", "sampled"
    """A round began; `sampled` names the agents that were drawn."""
    ROUND_EXTENDED = "round-extended", "round", "taken_back"
    """The deadline passed with too few updates and was extended; `taken_back` counts the tasks that were reassigned."""
    ROUND_AGGREGATING = "round-aggregating", "round", "updates"
    """The set of updates is final and is being aggregated; `updates` counts them."""
    ROUND_CLOSED = "round-closed", "round", "adapter_sha256", "contributors"
    """The round's adapter, named by its SHA-256, is the new global adapter; `contributors` names the agents."""
    ROUND_ROLLED_BACK = "round-rolled-back", "round", "adapter_sha256", "metrics", "contributions"
    """A round was undone; the event keeps what its adapter's lineage said."""
    ALGORITHM_RESTARTED = "algorithm-restarted", "round", "agents"
    """These agents lost their client state, so the algorithm restarts from its initial state."""
    ADAPTER_EVALUATED = "adapter-evaluated", "adapter", "metrics", "clients", "not_run"
    """All evaluations of an adapter have ended; `metrics` are the means over `clients` clients and what benchmarks
    gave, `not_run` says of benchmarks without a number why there is none."""
    AGENT_INVITED = "agent-invited", "agent"
    """An agent with the campaign's labels became a participant."""
    AGENT_JOINED = "agent-joined", "agent", "client", "round"
    """A participant is a client from this round on, under this client number."""
    AGENT_JOINS_LATER = "agent-joins-later", "agent"
    """The rounds begin without an agent that still prepares or waits for its owner; it joins once it is prepared."""
    AGENT_WAITS = "agent-waits", "agent", "message"
    """An agent waits for its owner: to accept the campaign, or to go on after a pause."""
    AGENT_LEFT = "agent-left", "agent", "message"
    """An agent's owner refused the campaign, or left it."""
    AGENT_BACK = "agent-back", "agent"
    """An agent's owner lets it take part, from now on or again."""
    AGENT_MISMATCHED = "agent-mismatched", "agent", "parts"
    """An agent's base model differs from the campaign's in these parts, so the agent takes no part."""
    AGENT_SET_ASIDE = "agent-set-aside", "agent", "failures", "until"
    """An agent failed too many rounds in a row and is not drawn up to and including round `until`."""
    AGENT_REVOKED = "agent-revoked", "agent"
    """The operator revoked an agent that takes part."""
    CLIENT_WEIGHT_CHANGED = "client-weight-changed", "agent", "round", "before", "after"
    """A client's part of the weight of all clients changed by a tenth of the whole or more."""
    CLIENT_OUTWEIGHS = "client-outweighs", "agent", "round", "rows", "share"
    """One of three or more clients has more than half of the weight, by the number of rows that it declared."""
    CLIENT_REPLACED = "client-replaced", "round", "agent"
    """An agent was drawn in place of one whose task failed or was taken back."""
    TASK_LEASED = "task-leased", "task_id", "agent_id", "kind", "round", "attempt"
    """An agent was granted the lease of a task. Of many leases of one task, only some are recorded."""
    TASK_RELEASED = "task-released", "task_id", "agent_id", "kind", "round", "attempt"
    """An agent gave a task back unfinished."""
    LEASE_EXPIRED = "lease-expired", "task_id", "agent_id", "kind", "round", "attempt"
    """A lease was not renewed in time; the task waits for its agent."""
    UPDATE_HELD = "update-held", "task_id", "agent_id", "kind", "round", "attempt"
    """An agent finished its update, and its owner keeps it back for now."""
    UPDATE_RELEASED = "update-released", "task_id", "agent_id", "kind", "round", "attempt"
    """An agent's owner lets a held update go; the task waits for its agent, which sends it."""
    TASK_DONE = "task-done", "task_id", "agent_id", "kind", "round", "agent"
    """A task's result was accepted."""
    TASK_FAILED = "task-failed", "task_id", "agent_id", "kind", "round", "failure", "message"
    """A task failed; `failure` is the kind of failure, `message` says what to do."""
