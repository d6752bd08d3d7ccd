"""What protected the owners' rows while an adapter was made, for its model card: facts of its lineage alone."""

from collections.abc import Iterable
from typing import Self

from pydantic import BaseModel, ConfigDict

from shared.campaign.spec import CampaignSpec
from shared.states import RoundState
from shared.wire.campaigns import RoundView

_TITLE = "## What protected the owners' rows"


class Protection(BaseModel):
    """How many took part in the rounds that made an adapter.

    Args:
        n_rounds: Rounds of its campaign that are in it; 0 for adapter 0.
        n_clients: Clients whose updates are in it.
        least_updates: Fewest updates that one of these rounds combined; 0 for adapter 0.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    n_rounds: int
    n_clients: int
    least_updates: int

    @classmethod
    def of(cls, rounds: Iterable[RoundView], adapter_number: int) -> Self:
        """Of a campaign's rounds and the number of one of its adapters."""
        clients = [
            set(each.contributors)
            for each in rounds
            if each.number <= adapter_number and each.state is RoundState.CLOSED
        ]
        return cls(
            n_rounds=len(clients),
            n_clients=len(set().union(*clients)),
            least_updates=min(map(len, clients), default=0),
        )


def protection_section(
    spec: CampaignSpec, protection: Protection | None, *, number: int, has_origin: bool
) -> list[str]:
    """The card's section.

    Args:
        spec: the campaign's specification.
        protection: None if who writes the card does not know it.
        number: the adapter's number.
        has_origin: whether the campaign started from another one's adapter.
    """
    lines = [_TITLE, ""]
    if number:
        rounds = _rounds(protection) if protection is not None else _planned(spec)
        lines += [f"- {line}" for line in (*rounds, _kept(spec), *_UNPROTECTED)]
    elif not has_origin:
        lines.append("No row of any owner is in it: it was drawn at random, and no client has trained it.")
    if has_origin:
        what = "the adapter that the campaign started from" if number else "this adapter"
        lines += ["", f"The rounds of other campaigns that made {what} are not counted here; see the cards of these."]
    return lines


def _planned(spec: CampaignSpec) -> list[str]:
    """What an owner knows who pulled the adapter: the campaign that it accepted."""
    least = spec.selection.minimum
    return [
        f"The rows stayed with their owners. By the campaign that they accepted, each round has at least "
        f"{_many(least, 'update')}; this card was written by one of them, who does not know how many there were."
    ]


_UNPROTECTED = (
    "Single updates were read by aggregation and verification alone; no request gave one to anybody. There was no "
    "secure aggregation, so whoever ran the coordinator's machine could read them there.",
    "There was no differential privacy: whoever has this adapter may find out whether a text was among the rows, and "
    "may get pieces of rows out of it.",
)


def _rounds(protection: Protection) -> list[str]:
    n = protection.n_rounds
    rounds = "one round" if n == 1 else f"{n} rounds, each"
    clients, updates = _many(protection.n_clients, "client"), _many(protection.least_updates, "update")
    lines = [f"The rows stayed with their owners. {clients} trained it in {rounds} of at least {updates}."]
    if protection.least_updates == 1:
        lines.append("Where a round had one update, the adapters before and after it tell what that update was.")
    if protection.least_updates == 2:
        lines.append("Where a round had two updates, each of the two clients can work out the other's.")
    return lines


def _kept(spec: CampaignSpec) -> str:
    kept = spec.retention.updates
    if kept == 0:
        return "The coordinator deleted each update when its round closed (`retention.updates: 0`)."
    newest = "newest round" if kept == 1 else f"newest {kept} rounds"
    return (
        f"The coordinator keeps the updates of the campaign's {newest}, to verify results "
        f"(`retention.updates: {kept}`); backups hold them too."
    )


def _many(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"
