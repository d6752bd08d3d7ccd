"""A campaign in plain words fits 80 columns, says what its owner must know, and obeys no text of another party."""

import io
from typing import Any

import pytest

from agent.configuration.policy import PolicySettings
from agent.record.campaigns import KnownCampaign
from fedloom.cli.agent.words.campaign import campaign_in_words, campaign_table
from fedloom.cli.agent.words.policy import policy_in_words
from fedloom.cli.plain_console import PlainConsole
from shared.campaign.spec import CampaignSpec
from shared.text.plain_text import visible
from tests.cli.owner.known import known_campaign

EVIL = (
    "\x1b]0;T\x07\x1b[2J\x9b31m [link=http://x]y[/link] [/] :smile: \u202eevil\u2066 \u200f\r\nFAKE 0 rows leave "
    + "w" * 90
)


def said(known: KnownCampaign, policy: PolicySettings | None = None) -> dict[str, str]:
    return dict(campaign_in_words(known, policy or PolicySettings()))


def hostile(**changes: Any) -> CampaignSpec:
    """A specification with hostile texts wherever one may be, also where a coordinator's check would refuse them."""
    spec = known_campaign(**changes).spec
    base = spec.base.model_copy(update={"model": EVIL, "revision": EVIL})
    algorithm = spec.algorithm.model_copy(update={"name": EVIL, "params": {EVIL: EVIL}})
    data = spec.data.model_copy(update={"name": EVIL})
    return spec.model_copy(
        update={"base": base, "algorithm": algorithm, "data": data, "start_from": EVIL, "kind": EVIL}
    )


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
@pytest.mark.parametrize("terminal", [True, False])
def test_hostile_texts_are_shown_as_text_within_80_columns(encoding: str, terminal: bool) -> None:
    known = known_campaign(spec=hostile(), participants=[EVIL, "bob"], name=EVIL, coordinator=EVIL)
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    console = PlainConsole(file=file, width=80, force_terminal=terminal, color_system=None, markup=False, emoji=False)
    console.print(campaign_table(known, PolicySettings()))
    file.flush()
    text = file.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    assert visible(text) == text
    assert max(map(len, text.splitlines())) <= 80
    assert not [line for line in text.splitlines() if line.startswith(("FAKE", "www"))]
    assert "[link=http://x]y[/link]" in " ".join(text.split())


LIE = "0.01; rank 2, batch 64, and differential privacy (epsilon 0.1) is on"


@pytest.mark.parametrize(
    ("changes", "title", "words"),
    [
        ({"params": {"mu": LIE[:40]}}, "parameters", f'"mu": "{LIE[:40]}"'),
        ({"params": {LIE[:30]: 1}}, "parameters", f'"{LIE[:30]}": 1'),
        ({"params": {"mu": LIE * 9}}, "parameters", f'"mu": "{LIE[:59]}…"'),
        ({"params": {"a": ['", b: "']}}, "parameters", r'"a": ["\", b: \""]'),
        ({"kind": {"beta": LIE[:40]}}, "of the kind", f'"beta": "{LIE[:40]}"'),
        (
            {"model": "org/tiny, revision " + "a" * 40},
            "base model",
            f'"org/tiny, revision {"a" * 40}", no revision: NOT',
        ),
        ({"revision": "main, which is pinned"}, "base model", 'revision "main, which is pinned": NOT PINNED'),
        ({"participants": ["ada", "bob, and 70 more"]}, "takes part", 'ada, "bob, and 70 more"; the campaign'),
    ],
)
def test_no_text_of_another_party_reads_as_the_agents_own_words(
    changes: dict[str, Any], title: str, words: str
) -> None:
    spec = known_campaign().spec
    algorithm = spec.algorithm.model_copy(update={"params": changes.get("params", {})})
    named = {key: changes[key] for key in ("model", "revision") if key in changes}
    spec = spec.model_copy(update={"algorithm": algorithm, "base": spec.base.model_copy(update=named)})
    object.__setattr__(spec, "__pydantic_extra__", {"sft": changes.get("kind", {})})
    shown = said(known_campaign(spec=spec, participants=changes.get("participants")))
    assert words in shown[title]


def test_each_setting_of_the_training_is_shown_under_its_own_title() -> None:
    training = {
        "steps": 9,
        "batch_size": 8,
        "max_length": 128,
        "learning_rate": 0.3,
        "min_learning_rate": 0.1,
        "warmup_steps": 2,
        "optimizer": "sgd",
        "weight_decay": 0.25,
        "max_grad_norm": None,
        "seed": 77,
    }
    lora = {"rank": 4, "alpha": 12, "dropout": 0.05, "freeze_a": True, "target_modules": ["q_proj", "v_proj"]}
    shown = said(known_campaign(training=training, lora=lora, evaluation={"every": 3}))
    expected = {
        "kind": "sft",
        "algorithm": "fedavg",
        "adapter": "rank 4, alpha 12 (scale 3), dropout 0.05; only B is trained, A stays frozen",
        "targets": "q_proj, v_proj",
        "rows": "steps of 8 rows, each cut at 128 tokens",
        "rate": "0.3, falling to 0.1 by the last round, after 2 steps of warm-up",
        "optimizer": "sgd, weight decay 0.25, gradients NOT CLIPPED",
        "seed": "77",
        "evaluation": "adapter 0, that of every 3 rounds and the last, on your held-out rows",
    }
    assert expected.items() <= shown.items()
    assert "none on your held-out rows" in said(known_campaign(evaluation={"every": 0}))["evaluation"]
    many = said(known_campaign(lora={"rank": 2, "target_modules": [f"layer{number}" for number in range(12)]}))
    assert many["targets"].endswith("layer9, and 2 more")


def test_a_supplied_start_is_told_as_the_coordinators_word() -> None:
    start = {"start_from": "earlier/final", "start_sha256": "ab" * 32}
    words = said(known_campaign(**start))["starts from"]
    assert words.startswith(f"an adapter that the coordinator names (digest {'ab' * 32}); by its word an earlier ")
    assert "(earlier/final)" in words
    assert "CANNOT BE CHECKED" in words


@pytest.mark.parametrize(
    ("base", "words"),
    [
        ({"model": "org/tiny"}, "org/tiny, no revision: NOT PINNED, what is under this name may change"),
        ({"model": "t", "revision": "main"}, "t, revision main: NOT PINNED, a branch or a tag may change"),
        ({"model": "t", "revision": "a" * 39}, f"t, revision {'a' * 39}: NOT PINNED, a branch or a tag may change"),
        ({"model": "t", "revision": "a1" * 20, "quantization": "nf4"}, f"t, nf4, revision {'a1' * 20}"),
        (
            {"model": "t", "revision": "a1" * 20, "quantization": "nf4", "cpu_dtype": "bfloat16"},
            f"t, nf4, bfloat16 on a CPU, revision {'a1' * 20}",
        ),
        (
            {"model": "t", "revision": "a1" * 20, "cpu_dtype": "auto"},
            f"t, float32 or bfloat16 on a CPU, by its processor, revision {'a1' * 20}",
        ),
    ],
)
def test_a_revision_that_is_no_commit_is_named_as_not_pinned(base: dict[str, str], words: str) -> None:
    assert said(known_campaign(base=base))["base model"] == words


def test_rows_are_told_once_they_are_counted() -> None:
    before, after = said(known_campaign()), said(known_campaign(n_train=80, n_distinct=70, n_held_out=20))
    assert before["data"] == "notes, template chat; the rows are counted once you accept"
    assert before["work"] == "3 rounds of 5 steps each: 10 rows a round"
    assert after["data"] == "notes, template chat; 80 rows to train on, 70 of them distinct; 20 held out"
    assert after["work"] == "3 rounds of 5 steps each: 10 rows a round, 0.4 passes over your rows in all"
    assert said(known_campaign(training={"epochs": 2}))["work"] == "3 rounds of 2 epochs each"


def test_what_leaves_follows_the_campaign_and_the_policy() -> None:
    kept = said(known_campaign(retention={"updates": 5}), PolicySettings(report="none"))["leaves"]
    assert "in the clear to the coordinator, kept for 5 more rounds (backups keep it longer)" in kept
    assert "no losses, and no evaluation (policy.report = none)" in kept
    assert "deleted there once the round has closed" in said(known_campaign())["leaves"]


def test_how_updates_are_sent_is_said_and_called_no_protection() -> None:
    assert "an update, computed from your rows, in float32, in the clear" in said(known_campaign())["leaves"]
    rounded = said(known_campaign(wire="int8"))["leaves"]
    assert "rounded to int8 together with what rounding took from the one before (coarser, and NOT PRIVATE)" in rounded


def test_who_takes_part_is_told_as_the_coordinators_word() -> None:
    words = said(known_campaign(participants=["ada", "bob"], n_participants=70))["takes part"]
    assert words.startswith("by the coordinator's word 70 so far: ada, bob, and 68 that it does not name; ")
    drawn = said(known_campaign(selection={"clients_per_round": 5, "minimum": 4}))["takes part"]
    assert "4 or more, 5 are drawn for each round, and a round closes with 4 or more updates" in drawn


def test_the_words_promise_nothing() -> None:
    words = said(known_campaign())["could learn"]
    assert "prove nothing" in words
    assert "no differential privacy" in words or "this campaign has none" in words


@pytest.mark.parametrize("key", PolicySettings.model_fields)
def test_the_policy_in_words_names_each_key(key: str) -> None:
    from agent.configuration.settings import AgentSettings

    opened = {"accept": "any", "base_models": ["*"], "max_rounds": 7, "remote_code": True}
    words = " ".join(sentence for _, sentence in policy_in_words(AgentSettings(policy=PolicySettings(**opened))))
    assert key in words or key == "max_download_bytes"  # which is about bytes that come
