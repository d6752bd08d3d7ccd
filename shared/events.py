"""The types of events that a campaign's log holds, and what each carries; ``docs/events.md`` documents them."""

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
    CAMPAIGN_STARTS_FROM = "campaign-starts-from", "campaign", "campaign_id", "adapter", "sha256"
    """The campaign starts from the adapter of another one."""
    CAMPAIGN_MOVED = "campaign-moved", "before", "to", "reason"
    """The campaign changed its state; `reason` is null where the new state says it all."""
    CAMPAIGN_ROLLED_BACK = "campaign-rolled-back", "round", "adapter", "undone"
    """The campaign goes on from an earlier round; `undone` lists the rounds that were undone."""
    ROUND_OPENED = "round-opened", "round", "sampled"
    """A round began; `sampled` names the agents that were drawn."""
    ROUND_EXTENDED = "round-extended", "round", "taken_back"
    """The deadline passed with too few updates and was extended; `taken_back` counts the tasks that were reassigned."""
    ROUND_AGGREGATING = "round-aggregating", "round", "updates"
    """The set of updates is final and is being aggregated; `updates` counts them."""
    ROUND_CLOSED = "round-closed", "round", "adapter", "contributors"
    """The round's adapter, named by its SHA-256, is the new global adapter; `contributors` names the agents."""
    ROUND_ROLLED_BACK = "round-rolled-back", "round", "adapter", "metrics", "contributions"
    """A round was undone; the event keeps what its adapter's lineage said."""
    ALGORITHM_RESTARTED = "algorithm-restarted", "round", "agents"
    """These agents lost their client state, so the algorithm restarts from its initial state."""
    ADAPTER_EVALUATED = "adapter-evaluated", "adapter", "metrics", "clients"
    """All evaluations of an adapter have ended; `metrics` are the means over `clients` clients."""
    AGENT_INVITED = "agent-invited", "agent"
    """An agent with the campaign's labels became a participant."""
    AGENT_JOINED = "agent-joined", "agent", "client", "round"
    """A participant is a client from this round on, under this client number."""
    AGENT_JOINS_LATER = "agent-joins-later", "agent"
    """The rounds begin without an agent that is still preparing; it joins once it is prepared."""
    AGENT_MISMATCHED = "agent-mismatched", "agent", "parts"
    """An agent's base model differs from the campaign's in these parts, so the agent takes no part."""
    AGENT_SET_ASIDE = "agent-set-aside", "agent", "failures", "until"
    """An agent failed too many rounds in a row and is not drawn up to and including round `until`."""
    AGENT_REVOKED = "agent-revoked", "agent"
    """The operator revoked an agent that takes part."""
    CLIENT_REPLACED = "client-replaced", "round", "agent"
    """An agent was drawn in place of one whose task failed or was taken back."""
    TASK_LEASED = "task-leased", "task_id", "agent_id", "kind", "round", "attempt"
    """An agent was granted the lease of a task."""
    TASK_RELEASED = "task-released", "task_id", "agent_id", "kind", "round"
    """An agent gave a task back unfinished."""
    LEASE_EXPIRED = "lease-expired", "task_id", "agent_id", "kind", "round", "attempt"
    """A lease was not renewed in time; the task waits for its agent."""
    TASK_DONE = "task-done", "task_id", "agent_id", "kind", "round", "agent"
    """A task's result was accepted."""
    TASK_FAILED = "task-failed", "task_id", "agent_id", "kind", "round", "failure", "message"
    """A task failed; `failure` is the kind of failure, `message` says what to do."""
