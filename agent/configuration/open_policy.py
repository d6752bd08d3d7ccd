"""Settings that accept everything: for agents of a simulation, of a demonstration and of tests, which have no owner."""

import json

from agent.configuration.policy import PolicySettings

OPEN_POLICY = PolicySettings(
    accept="any",
    base_models=["*"],
    min_rows=1,
    min_held_out=1,
    batch_size=(1, 1 << 20),
    max_length=(1, 1 << 30),
    rank=(1, 1 << 20),
    max_epochs=1e9,
    max_rounds=1 << 30,
    max_rollbacks=1_000_000,
    min_participants=1,
    min_in_round=1,
    max_campaigns=1_000_000,
    report="live",
    retention_updates=1 << 30,
    suites=["*"],
)
"""Accepts every campaign of an accepted kind, and reports everything."""


def opened(policy: PolicySettings) -> PolicySettings:
    """The open policy, but for what *policy* sets itself."""
    return OPEN_POLICY.model_copy(update={name: getattr(policy, name) for name in policy.model_fields_set})


def with_open_policy(settings: str) -> str:
    """The text of an agent.toml with the open policy; keys of its own ``[policy]`` table stay as they are."""
    before, header, own = settings.partition("[policy]\n")
    given = {line.partition("=")[0].strip() for line in own.partition("\n[")[0].splitlines()}
    opened = OPEN_POLICY.model_dump(exclude_unset=True)
    lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in opened.items() if key not in given)
    return f"{before}{header}{lines}{own}" if header else f"{settings.rstrip()}\n\n[policy]\n{lines}"
