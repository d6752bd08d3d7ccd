"""Refusals: which setting of the owner forbids what."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from agent.errors import TaskFailed
from shared.wire.tasks.leases import FailureKind


@dataclass(frozen=True)
class Refusal:
    """A setting that a campaign does not fit.

    Args:
        key: the setting, such as ``policy.min_rows``.
        value: its value, as in agent.toml.
        asked: what the campaign asks for, in words.
        remedy: what to change, in the campaign or in agent.toml; empty if nothing is known.
        field: the field of the campaign file that it is about; empty if there is none.
    """

    key: str
    value: str
    asked: str
    remedy: str = ""
    field: str = ""

    def as_json(self) -> dict[str, str]:
        """The refusal for scripts."""
        return asdict(self)

    def __str__(self) -> str:
        remedy = f" ({self.remedy})" if self.remedy else ""
        return f"{self.asked}, and {self.key} = {self.value}{remedy}"


def refuse(refusals: Iterable[Refusal]) -> None:
    """Raise TaskFailed (refused-by-policy), which names all of them, if there are any."""
    if found := [*refusals]:
        raise TaskFailed(FailureKind.REFUSED_BY_POLICY, f"refused by this agent's policy: {'; '.join(map(str, found))}")
