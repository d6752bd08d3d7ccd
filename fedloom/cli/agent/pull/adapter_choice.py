"""Which adapter of a campaign an owner means: a number, the final one, the best of all, or the best on its own rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedloom.errors import NoSuchAdapter
from shared.text.ranges import in_ranges

if TYPE_CHECKING:
    from agent.owner.losses import OwnLosses
    from shared.wire.adapters import OwnAdapter

BEST_FOR_ME = "best-for-me"


@dataclass(frozen=True)
class Choice:
    """An adapter, and what its owner should know of the choice; empty if nothing."""

    adapter: "OwnAdapter"
    note: str = ""


def choose(
    which: str | None, campaign_name: str, adapters: "Sequence[OwnAdapter]", losses: "OwnLosses", why_none: str
) -> Choice:
    """Choose an adapter that is stored. Raises errors.NoSuchAdapter, which says what there is instead.

    Args:
        which: a number, final, best or best-for-me; None for the final one, or the newest while there is none.
        campaign_name: for messages.
        adapters: all of the campaign, stored or not, by number.
        losses: the owner's own.
        why_none: why the owner has no losses, if so.
    """
    if not adapters:
        raise NoSuchAdapter(campaign_name, which or "final", "none was made yet; wait until its first round is closed")
    if which == BEST_FOR_ME:
        return _best_for_me(campaign_name, adapters, losses, why_none)
    if which is None:
        found = next((each for each in adapters if each.final), None)
        note = "" if found is not None else "the campaign is not over; this is its newest adapter"
        found = found or adapters[-1]
    elif which.isdecimal():
        found, note = next((each for each in adapters if each.number == int(which)), None), ""
    else:
        found, note = next((each for each in adapters if (each.final if which == "final" else each.best)), None), ""
    if found is None:
        raise NoSuchAdapter(campaign_name, which or "final", f"{_missing(which)}; {_stored(adapters)}")
    if not found.stored:
        named = which if which is not None and which.isdecimal() else str(found.number)
        raise NoSuchAdapter(campaign_name, named, f"its weights are no longer stored; {_stored(adapters)}")
    return Choice(found, note or _changed(found, losses))


def _best_for_me(campaign_name: str, adapters: "Sequence[OwnAdapter]", losses: "OwnLosses", why_none: str) -> Choice:
    """The stored adapter with the lowest own loss, by the bytes that were evaluated here."""
    if losses.best() is None:
        instead = "take --adapter best, by what the campaign decides by, or --adapter final"
        raise NoSuchAdapter(campaign_name, BEST_FOR_ME, f"none was evaluated here: {why_none}; {instead}")
    same = {each.number: each for each in adapters if is_as_evaluated(each, losses)}
    number = losses.best(each.number for each in same.values() if each.stored)
    if number is None:
        reason = f"none of those that were evaluated here is stored any more; {_stored(adapters)}"
        raise NoSuchAdapter(campaign_name, BEST_FOR_ME, reason)
    best = losses.best()
    note = ""
    if best is not None and best != number:
        note = f"adapter {best} was better here ({_shown(losses, best)}), and is no longer stored"
    return Choice(same[number], note)


def is_as_evaluated(adapter: "OwnAdapter", losses: "OwnLosses") -> bool:
    """Whether an adapter has the bytes that were evaluated here under its number."""
    found = losses.held_out.get(adapter.number)
    return found is not None and found.adapter == adapter.blob.sha256


def _changed(adapter: "OwnAdapter", losses: "OwnLosses") -> str:
    """That other bytes were evaluated here under a number: the campaign was rolled back, or somebody changed them."""
    if adapter.number not in losses.held_out or is_as_evaluated(adapter, losses):
        return ""
    return (
        f"these are not the bytes that were evaluated here as adapter {adapter.number}: the campaign was rolled back "
        "since, or its coordinator changed them"
    )


def _shown(losses: "OwnLosses", number: int) -> str:
    value = losses.of_adapter(number)
    return losses.loss.text(value) if value is not None else "unknown"


def _missing(which: str | None) -> str:
    if which == "best":
        return "none has been evaluated by what the campaign decides by"
    return "it has not ended" if which == "final" else "there was none of this number"


def _stored(adapters: "Sequence[OwnAdapter]") -> str:
    numbers = [each.number for each in adapters if each.stored]
    return f"stored are {in_ranges(numbers)}" if numbers else "none is stored"
