"""Which statement may follow which: all that an honest coordinator signs, and nothing that contradicts it."""

import json
import random
from collections.abc import Callable

import pytest

from agent.signing import standing as standing_module
from agent.signing.standing import Contradicted, Standing
from shared.signing.statements import AdapterSigned, HistorySigned, RosterSigned, SpecificationSigned, digest_of
from tests.agent.signing.histories import honest_chain
from tests.support.signed import SignedChain

SEEDS = range(60)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_an_honest_coordinator_signs_holds(seed: int) -> None:
    chain = honest_chain(seed)
    standing = Standing.of("c1", chain.texts)
    assert standing.number == len(chain.texts) - 1
    assert standing.sha256 == digest_of(chain.texts[-1])
    assert standing.history == chain.history
    assert {number: each.sha256 for number, each in standing.adapters.items()} == chain.adapters
    latest = {number: names for number, names in chain.rosters.items() if number > len(chain.adapters) - 8}
    assert {number: each.agents for number, each in standing.rosters.items() if number in latest} == latest


def relinked(texts: list[str], begins: int) -> list[str]:
    """The same statements, numbered and linked as a coordinator would sign them who hides what it did."""
    whole = texts[:begins]
    for text in texts[begins:]:
        facts = json.loads(text) | {"number": len(whole)}
        facts["previous"] = digest_of(whole[-1]) if whole else facts["previous"]
        whole.append(json.dumps(facts, separators=(",", ":")))
    return whole


def cut(texts: list[str], place: int, _: random.Random) -> list[str]:
    return texts[:place] + texts[place + 1 :]


def repeated(texts: list[str], place: int, _: random.Random) -> list[str]:
    return [*texts[: place + 1], *texts[place:]]


def swapped(texts: list[str], place: int, _: random.Random) -> list[str]:
    return [*texts[:place], *reversed(texts[place : place + 2]), *texts[place + 2 :]]


def edited(texts: list[str], place: int, draw: random.Random) -> list[str]:
    facts = json.loads(texts[place])
    name = draw.choice([name for name in facts if name != "kind"])
    facts[name] = {int: 99, str: "f" * 64, list: ["eve"], type(None): "f" * 64}[type(facts[name])]
    return [*texts[:place], json.dumps(facts, separators=(",", ":")), *texts[place + 1 :]]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("change", [cut, repeated, swapped, edited])
def test_a_chain_that_was_changed_does_not_hold(
    seed: int, change: Callable[[list[str], int, random.Random], list[str]]
) -> None:
    """Anywhere but at its end: there nothing refers to what was changed, and fingerprints tell it."""
    draw = random.Random(seed)
    texts = honest_chain(seed).texts
    changed = change(texts, draw.randrange(len(texts) - 2), draw)
    with pytest.raises(Contradicted):
        Standing.of("c1", changed)


def of_rounds(n_rounds: int) -> SignedChain:
    chain = SignedChain(honest_chain(0).key, "c1")
    chain.say_specification("a" * 64)
    chain.say_adapter(0, "0" * 64)
    for number in range(1, n_rounds + 1):
        chain.say_roster(number, ["ada", "bob"])
        chain.say_adapter(number, f"{number}" * 64)
    return chain


@pytest.mark.parametrize(
    ("say", "why"),
    [
        (lambda c: c.add(AdapterSigned, adapter=1, sha256="f" * 64), "adapter 1 was signed before"),
        (lambda c: c.add(AdapterSigned, adapter=0, sha256="f" * 64), "adapter 0 was signed before"),
        (lambda c: c.add(AdapterSigned, adapter=3, sha256="f" * 64), "adapter 3 comes without a roster"),
        (lambda c: c.add(AdapterSigned, adapter=5, sha256="f" * 64), "adapter 5 comes after adapter 2"),
        (lambda c: c.add(RosterSigned, round=1, agents=["ada"]), "a roster of round 1 comes after adapter 2"),
        (lambda c: c.add(RosterSigned, round=4, agents=["ada"]), "a roster of round 4 comes after adapter 2"),
        (lambda c: c.add(RosterSigned, round=3, agents=["ada"], history=1), "it is of history 1, and 0 is"),
        (lambda c: c.add(RosterSigned, round=3, agents=["ada"], campaign_id="c2"), "about another campaign, c2"),
        (lambda c: c.add(RosterSigned, round=3, agents=["ada"], number=3), "it is number 3, and 6 is the next"),
        (lambda c: c.add(RosterSigned, round=3, agents=["ada"], previous="f" * 64), "does not name the statement"),
        (lambda c: c.add(SpecificationSigned, spec_sha256="b" * 64), "the first statement of a campaign"),
        (lambda c: c.add(HistorySigned, adapter=1, history=0), "history 0 comes after 0"),
        (lambda c: c.add(HistorySigned, adapter=5, history=1), "it begins with adapter 5, and 2 is the newest"),
        (lambda c: c.add(HistorySigned, adapter=None, history=1), "it begins with adapter -1, and 2 is the newest"),
        (lambda c: c.texts.append("{}"), "it cannot be read"),
    ],
)
def test_a_contradiction_is_named(say: Callable[[SignedChain], None], why: str) -> None:
    chain = of_rounds(2)
    standing = Standing.of("c1", chain.texts)
    before = dict(vars(standing))
    say(chain)
    with pytest.raises(Contradicted, match=why):
        standing.add(chain.texts[-1])
    assert vars(standing) == before, "what is refused changes nothing"


def test_a_client_that_was_told_of_is_not_left_out_later() -> None:
    chain = of_rounds(1)
    chain.say_roster(2, ["ada", "bob"])
    chain.say_roster(2, ["ada", "cyd"])
    with pytest.raises(Contradicted, match="bob is no longer in the roster of round 2"):
        Standing.of("c1", chain.texts)


def test_a_coordinator_that_signs_a_hidden_change_anew_still_contradicts_itself() -> None:
    """It numbers and links everything again: the order of rounds and adapters gives it away."""
    texts = of_rounds(3).texts
    for place in range(1, len(texts) - 1):
        with pytest.raises(Contradicted):
            Standing.of("c1", relinked(cut(texts, place, random.Random(0)), place))


def test_a_chain_without_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    chain = of_rounds(3)
    monkeypatch.setattr(standing_module, "MAX_CHARS", sum(map(len, chain.texts)))
    standing = Standing.of("c1", chain.texts)
    chain.say_roster(4, ["ada"])
    with pytest.raises(Contradicted, match="longer than any campaign needs"):
        standing.add(chain.texts[-1])


def test_adapters_of_a_history_that_is_over_no_longer_count() -> None:
    chain = of_rounds(3)
    chain.say_history(1, 1)
    standing = Standing.of("c1", chain.texts)
    assert sorted(standing.adapters) == [0, 1]
    assert sorted(standing.rosters) == [1]
