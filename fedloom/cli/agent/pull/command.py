"""``fedloom agent pull``: an adapter of a campaign that this agent took part in, for its owner."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from fedloom.cli import output
from fedloom.cli.agent.known import Named, find, open_home
from fedloom.cli.agent.owner_commands import DEFAULT_HOME, Home
from fedloom.cli.agent.pull.adapter_choice import BEST_FOR_ME, Choice, choose, is_as_evaluated
from fedloom.cli.output import AsJson
from fedloom.errors import NoSuchAdapter
from shared.metrics import HELD_OUT_LOSS
from shared.text.plain_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from agent.network.api import CoordinatorApi
    from agent.owner.losses import OwnLosses
    from agent.record.campaigns import KnownCampaign
    from fedloom.adapters.facts import AdapterFacts
    from fedloom.cli.agent.known import OwnersHome
    from shared.wire.adapters import OwnAdapter

T = TypeVar("T")

_NAMES = ("final", "best", BEST_FOR_ME)
_LONGEST_NUMBER = 9


def _which(text: str | None) -> str | None:
    is_number = text is not None and text.isascii() and text.isdecimal() and len(text) <= _LONGEST_NUMBER
    if text is None or text in _NAMES or is_number:
        return text
    message = f"must be a number, {', '.join(_NAMES[:-1])} or {_NAMES[-1]}"
    raise typer.BadParameter(message)


def pull(
    campaign: Named,
    which: Annotated[
        str | None,
        typer.Option(
            "--adapter",
            metavar="ADAPTER",
            callback=_which,
            help="Its number, final, best (by the campaign's evaluation.best, over the clients or by a benchmark) or "
            "best-for-me (lowest loss on your own held-out rows); by default final, or the newest while it runs.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The folder to write; by default CAMPAIGN-adapter-NUMBER, here."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace an existing folder of an adapter or a model.")
    ] = False,
    home: Home = DEFAULT_HOME,
    as_json: AsJson = False,
) -> None:
    """Download an adapter of a campaign that you took part in, as a folder that PEFT and vLLM load.

    Works beside a running agent and without one, after the campaign's end,
    and after a pause or a leave. The coordinator is asked with the agent's
    own secret. Which adapter is the best for you says your own record.

    Example: fedloom agent pull clinic-notes --adapter best-for-me
    """
    from agent.owner.losses import OwnLosses, why_none
    from fedloom.adapters.folder import write_adapter_folder

    owners = open_home(home)
    known = find(owners.record, campaign)
    _check_same_agent(owners, known)
    losses = OwnLosses.of(owners.record, known.id, known.spec.kind)
    adapters = _asked(owners, lambda api: _listed(api, owners, known))
    choice = choose(which, known.name, adapters, losses, why_none(known, owners.settings.policy))
    _check_size(owners, known, choice.adapter)
    folder = out if out is not None else Path(f"{known.name}-adapter-{choice.adapter.number}")
    facts = _facts(known, choice.adapter, adapters)
    write_adapter_folder(facts, lambda path: _download(owners, known, choice.adapter, path), folder, force=force)
    if as_json:
        output.print_json(_as_json(known, choice, losses, folder))
    else:
        _say(known, choice, losses, folder)


async def _listed(api: "CoordinatorApi", owners: "OwnersHome", known: "KnownCampaign") -> "list[OwnAdapter]":
    """The adapters of a campaign, each with the digest that was signed. Raises TaskFailed if one has another."""
    from agent.network.pulling import list_adapters
    from agent.signing.checks import check_listed
    from agent.signing.following import SignedCampaigns

    adapters = await list_adapters(api, known)
    check_listed(adapters, await SignedCampaigns(api, owners.identity.name, owners.statements).catch_up(known.id))
    return adapters


def _check_same_agent(owners: "OwnersHome", known: "KnownCampaign") -> None:
    """Raise NotTakenPart if this home enrolled anew since: the coordinator knows it as another agent."""
    from agent.errors import NotTakenPart

    if known.terms.agent_id != owners.identity.agent_id:
        raise NotTakenPart(known.name, "this agent enrolled again since it took part")


def _check_size(owners: "OwnersHome", known: "KnownCampaign", adapter: "OwnAdapter") -> None:
    """Raise NoSuchAdapter if an adapter is larger than the settings let in."""
    most = owners.settings.policy.max_download_bytes
    if adapter.blob.n_bytes > most:
        reason = f"it has {adapter.blob.n_bytes:,} bytes, and policy.max_download_bytes = {most}"
        raise NoSuchAdapter(known.name, str(adapter.number), reason)


def _asked(owners: "OwnersHome", ask: "Callable[[CoordinatorApi], Awaitable[T]]") -> T:
    """What the coordinator answers to the agent's own secret. Raises what *ask* raises."""
    from agent.network.api import CoordinatorApi

    async def answer() -> T:
        api = CoordinatorApi.of(owners.identity, owners.workspace.ledger, owners.settings.network)
        try:
            return await ask(api)
        finally:
            await api.close()

    return asyncio.run(answer())


def _download(owners: "OwnersHome", known: "KnownCampaign", adapter: "OwnAdapter", path: Path) -> None:
    from agent.errors import CoordinatorRefused
    from agent.network.pulling import pull_adapter
    from shared.wire.problems import ProblemType

    try:
        _asked(owners, lambda api: pull_adapter(api, known, adapter, path))
    except CoordinatorRefused as refused:
        if refused.kind != ProblemType.NOT_FOUND:
            raise
        reason = "it is gone since it was listed; pull again to see which are there"
        raise NoSuchAdapter(known.name, str(adapter.number), reason) from refused


def _facts(known: "KnownCampaign", adapter: "OwnAdapter", adapters: "list[OwnAdapter]") -> "AdapterFacts":
    """What the folder says: the campaign as its owner accepted it. What was measured on its rows is not in it."""
    from fedloom.adapters.facts import AdapterFacts

    parents = {each.number: each.blob.sha256 for each in adapters}
    return AdapterFacts(
        campaign_id=known.id,
        spec=known.spec,
        number=adapter.number,
        blob=adapter.blob,
        created_at=adapter.created_at,
        parent_sha256=parents.get(adapter.number - 1),
        fingerprint=known.prepared.fingerprint if known.prepared is not None else None,
    )


def _say(known: "KnownCampaign", choice: Choice, losses: "OwnLosses", folder: Path) -> None:
    adapter = choice.adapter
    by = known.spec.evaluation.best
    best = "best" if by == HELD_OUT_LOSS else f"best by {by}"
    roles = [word for word, holds in (("final", adapter.final), (best, adapter.best)) if holds]
    roles += [BEST_FOR_ME] if is_as_evaluated(adapter, losses) and losses.best() == adapter.number else []
    facts = [*roles, output.size(adapter.blob.n_bytes)]
    loss = losses.of_adapter(adapter.number) if is_as_evaluated(adapter, losses) else None
    own = (
        f"own {losses.loss.title} {losses.loss.with_unit(loss)}{losses.course(adapter.number)}"
        if loss is not None
        else ""
    )
    if choice.note:
        output.say(choice.note, err=True)
    output.say(f"wrote adapter {adapter.number} of {visible_line(known.name)} to {folder} ({', '.join(facts)})")
    if own:
        output.say(own)


def _as_json(known: "KnownCampaign", choice: Choice, losses: "OwnLosses", folder: Path) -> dict[str, object]:
    adapter = choice.adapter
    is_same = is_as_evaluated(adapter, losses)
    return {
        "folder": str(folder.absolute()),
        "campaign_id": known.id,
        "adapter": adapter.model_dump(mode="json"),
        "own_metrics": dict(losses.held_out[adapter.number].metrics) if is_same else None,
        "note": choice.note or None,
    }
