"""The campaigns that an agent knows, as its owner's commands find and show them."""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import BaseModel

from fedloom.cli import output
from shared.text.plain_text import visible_line
from shared.wire.benchmarks import BenchmarkScore

if TYPE_CHECKING:
    from agent.configuration.settings import AgentSettings
    from agent.record.campaigns import KnownCampaign
    from agent.record.record import OwnerRecord
    from agent.record.statements import StatementRecord
    from agent.workspace import Identity, Workspace

Named = Annotated[
    str, typer.Argument(metavar="CAMPAIGN", help="Its digest or the first 6 or more characters of it, its id or name.")
]


@dataclass(frozen=True)
class OwnersHome:
    """An agent's home folder, as its owner's commands use it beside the running agent."""

    workspace: "Workspace"
    identity: "Identity"
    settings: "AgentSettings"

    @property
    def record(self) -> "OwnerRecord":
        return self.workspace.record

    @property
    def statements(self) -> "StatementRecord":
        """What the coordinator signed."""
        return self.record.statements(self.identity.signing_key)


def open_home(home: Path) -> OwnersHome:
    """Open a home folder. Raises NotEnrolled, RecordUnusable and SettingsError."""
    from agent.configuration.settings import load_settings
    from agent.workspace import Workspace

    workspace = Workspace(home)
    identity = workspace.read_identity()
    workspace.record.check()
    return OwnersHome(workspace, identity, load_settings(workspace.settings_file))


def find(record: "OwnerRecord", named: str) -> "KnownCampaign":
    """The campaign that a person means. Raises UnknownCampaign, and InvalidOption if it may be several."""
    return _only(named, named_so(record, named))


def find_asked(record: "OwnerRecord", named: str) -> "KnownCampaign":
    """The campaign that a person means to approve or to refuse. Raises UnknownCampaign and InvalidOption.

    A campaign that is created again on the same day has the digest of the one before: the one that waits is meant.
    """
    found = named_so(record, named)
    if all(is_digest_of(each, named) for each in found):
        found = [each for each in found if each.decision == "waiting"] or found
    return _only(named, found)


def is_digest_of(known: "KnownCampaign", named: str) -> bool:
    """Whether a person named a campaign by its whole digest, which no other specification has."""
    return named.lower() == known.spec_sha256


def named_so(record: "OwnerRecord", named: str) -> "list[KnownCampaign]":
    """The campaigns that a person may mean, at least one. Raises UnknownCampaign."""
    from agent.errors import UnknownCampaign

    if not (found := record.campaigns.named(named)):
        raise UnknownCampaign(named)
    return found


def _only(named: str, found: "list[KnownCampaign]") -> "KnownCampaign":
    from agent.errors import InvalidOption

    if len(found) == 1:
        return found[0]
    has_equal = len({each.spec_sha256 for each in found}) < len(found)
    what = f"its whole digest{', or by its id where digests are equal' if has_equal else ''}"
    listed = "".join(
        f"\n{visible_line(each.name)}, {visible_line(decided(each))}\n  id {each.id}\n  digest {each.spec_sha256}"
        for each in found
    )
    message = f"{named} may be one of {len(found)} campaigns; name the one that you mean by {what}:{listed}"
    raise InvalidOption(message)


class CampaignLine(BaseModel):
    """A known campaign in JSON."""

    id: str
    name: str
    coordinator: str
    spec_sha256: str
    decision: str
    decided_by: str | None
    decided_at: datetime | None
    asked_at: datetime
    base_model: str
    revision: str | None
    data: str
    rounds_trained: int
    rounds: int
    held_rounds: list[int]
    """Rounds whose updates are held here."""
    benchmarks: dict[int, list[BenchmarkScore]]
    """What public benchmarks gave, by the number of the adapter."""
    n_train: int | None
    n_held_out: int | None
    spec: dict[str, Any]
    """All that the digest covers."""
    participants: list[str]
    n_participants: int


def line_of(record: "OwnerRecord", known: "KnownCampaign") -> CampaignLine:
    """A known campaign for JSON."""
    from shared.campaign.digest import covered_by_digest

    prepared = known.prepared
    return CampaignLine(
        id=known.id,
        name=known.name,
        coordinator=known.coordinator,
        spec_sha256=known.spec_sha256,
        decision=known.decision,
        decided_by=known.decided_by,
        decided_at=known.decided_at,
        asked_at=known.asked_at,
        base_model=known.spec.base.model,
        revision=known.spec.base.revision,
        data=known.spec.data.name,
        rounds_trained=record.bookings.rounds_trained(known.id),
        rounds=known.spec.rounds,
        held_rounds=held_rounds(record, known.id),
        benchmarks=record.benchmarks.latest(known.id),
        n_train=prepared.n_train if prepared is not None else None,
        n_held_out=prepared.n_held_out if prepared is not None else None,
        spec=covered_by_digest(known.spec, known.terms.created_on),
        participants=known.terms.participants,
        n_participants=known.terms.n_participants,
    )


def held_rounds(record: "OwnerRecord", campaign_id: str) -> list[int]:
    """The rounds of a campaign whose updates are held."""
    return [update.round for update in record.held.kept(campaign_id) if update.is_held]


def decided(known: "KnownCampaign") -> str:
    """What was decided, by whom and when."""
    if known.decided_by is None:
        return f"waits for you since {output.since(known.asked_at)}"
    who = "you" if known.decided_by == "owner" else "your settings"
    return f"{known.decision} by {who}, {output.ago(known.decided_at)}"
