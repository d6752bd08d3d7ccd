"""Tables of clients and of the kind's own metrics on terminals that are narrow, and of campaigns that are large."""

import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from fedloom.cli import output
from fedloom.cli.campaign.away import AwayNotes, away_in_words
from fedloom.cli.campaign.tables.client_table import ClientTable
from fedloom.cli.campaign.tables.metric_tables import print_metrics
from shared.kinds import find
from shared.metrics import Better, Metric, Origin, Weight
from shared.wire.campaigns import CampaignDetail, ClientView
from tests.support.scripted import FINGERPRINT, campaign_body

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def campaign(*own: Metric, **changes: Any) -> CampaignDetail:
    fields = {"id": "c1", "name": "small", "state": "running", "reason": None, "rounds_closed": 6, "rounds": 9}
    times = {"created_at": NOW, "ended_at": None, "final_adapter": None, "best_adapter": None}
    spec = campaign_body(rounds=9, evaluation={"every": 1})
    metrics = [*find("sft").metrics.values(), *own]
    parts = {"spec": spec, "spec_sha256": "d" * 64, "participants": [], "fingerprint": FINGERPRINT, "metrics": metrics}
    return CampaignDetail.model_validate({**fields, **times, **parts, **changes})


def client(number: int, loss: float | None = 1.5, start: float = 2.0, **changes: Any) -> ClientView:
    name = f"ward-{number}"
    fields = {"client_number": number, "agent_id": name, "agent_name": name, "state": "prepared", "n_train": 10}
    held_out = {} if loss is None else {"held_out_loss": loss}
    evaluation = {"evaluation": "evaluated", "evaluation_failure": None, "evaluated_adapter": 6, "held_out": held_out}
    told = {"n_held_out": 5, "report": "live", "evaluates": True, "away_since": None}
    last = {**told, "update_round": 6, "update_weight": 0.5}
    values = {"training": {"train_loss_mean": 1.25}, "base": {"held_out_loss": start}}
    worse = {"worse_than_base": None if loss is None else loss > start}
    return ClientView.model_validate({**fields, **evaluation, **last, **worse, **values, **changes})


def printed(*clients: ClientView, width: int = 80, shown_in: CampaignDetail | None = None) -> str:
    console = Console(file=io.StringIO(), width=width)
    ClientTable(shown_in or campaign(), clients).print(console, "--all shows them")
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_of_many_clients_those_that_lose_are_among_the_shown_ones() -> None:
    page = printed(*(client(number, 2.5 if number in (50, 61) else 1.5) for number in range(62)))
    rows = [line.split()[0] for line in page.splitlines() if line.startswith("ward-")]
    assert (len(rows), rows[-2:]) == (20, ["ward-50", "ward-61"])
    assert "and 42 more; --all shows them" in page
    assert "worse than the base for: ward-50 (+0.5000), ward-61 (+0.5000)" in page


@pytest.mark.parametrize("name", ["w" * 63, "north-hospital-paediatrics-ward-17"])
def test_a_long_name_takes_lines_and_cuts_no_number(name: str) -> None:
    page = printed(client(0, 12345.25, agent_name=name), client(1, evaluation="failed"))
    assert max(map(len, page.splitlines())) <= 80
    assert all(value in page for value in ("12345.2500", "+12343.2500", "1.2500", "50.0%"))
    assert name in "".join(line[:14].strip() for line in page.splitlines()[2:])


def test_a_wide_terminal_has_the_loss_at_the_start_too() -> None:
    assert "BASE  VS BASE" in printed(client(0), width=120)
    chain = {"campaign_id": "c", "campaign_name": "n", "kind": "sft", "adapter_number": 1, "sha256": "0" * 64}
    page = printed(client(0, 2.5), width=120, shown_in=campaign(origins=[chain]))
    assert "ADAPTER 0  VS ADAPTER 0" in page
    assert "worse than adapter 0, the start for: ward-0 (+0.5000)" in page


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"evaluation": "withheld", "report": "none", "evaluated_adapter": None}, "withheld by its owner"),
        ({"evaluation": "too few rows", "evaluates": False, "evaluated_adapter": None}, "too few held-out rows"),
        ({"evaluation": "failed"}, "evaluation failed, loss of adapter 6"),
        ({"evaluation": "failed", "evaluated_adapter": None}, "evaluation failed"),
        ({"evaluation": "under way"}, "being evaluated, loss of adapter 6"),
        ({"evaluation": "no rows", "evaluated_adapter": None}, "no held-out rows"),
        ({"evaluation": "none", "evaluated_adapter": None}, "not evaluated"),
        ({}, ""),
    ],
)
def test_it_says_why_a_loss_is_missing_or_old(changes: dict[str, Any], note: str) -> None:
    row = printed(client(0, **changes), client(1), width=160).splitlines()[2]
    assert row.partition("-0.5000")[2].strip() == note


def test_without_evaluation_nobody_is_called_not_evaluated() -> None:
    off = campaign(spec=campaign_body(rounds=9))
    views = [client(0, None, evaluation="none", evaluated_adapter=None, base={})]
    silent = client(1, None, evaluation="withheld", evaluated_adapter=None, base={}, report="none", training={})
    page = printed(*views, silent, shown_in=off)
    assert "not evaluated" not in page
    assert "losses withheld by its owner: ward-1; the means are over the others" in page
    assert "losses withheld by its owner: ward-1; so there are no means" in printed(silent, shown_in=off)
    assert printed(client(0, None, update_round=None, evaluated_adapter=None)) == "", "nothing is known yet"


def agreement(number: int) -> Metric:
    title = f"held-out agreement of raters {number}"
    fields = {"origin": Origin.EVALUATION, "better": Better.HIGHER, "weight": Weight.ROWS, "minimum": 0, "maximum": 1}
    return Metric.model_validate({"name": f"agreement_{number}", "title": title, "unit": "of rows", **fields})


def test_many_metrics_of_a_kind_from_outside_stand_in_several_tables_of_80_columns() -> None:
    own = [agreement(number) for number in range(5)]
    console = Console(file=io.StringIO(), width=80)
    print_metrics(console, campaign(*own), {each.name: {0: 0.25, 6: 0.5} for each in own}, 12)
    assert isinstance(console.file, io.StringIO)
    page = console.file.getvalue()
    values = {each.name: 0.5 for each in own}
    page += printed(client(0, held_out={"held_out_loss": 1.0, **values}, base=values), shown_in=campaign(*own))
    assert max(map(len, page.splitlines())) <= 80
    assert all(page.count(each.title.upper()) == 2 for each in own)
    assert page.count("50.0% → 50.0%") == 5
    assert "in % of rows" in " ".join(page.split())


def test_blocks_fit_into_the_width_and_have_a_title_each_at_least() -> None:
    assert output.blocks({"A": 4, "B": 2, "C": 4}, 8) == [["A", "B"], ["C"]]
    assert output.blocks({"A": 4, "B": 2, "C": 4}, 7) == [["A"], ["B"], ["C"]]
    assert output.blocks({"A": 4, "B": 2}, 1) == [["A"], ["B"]]
    assert output.blocks({}, 80) == []


def test_going_and_coming_back_is_said_once() -> None:
    def at(**away: datetime | None) -> CampaignDetail:
        part = {"state": "prepared", "client_number": None, "n_train": 1, "n_held_out": 0, "rank": 2}
        parts = [{"agent_id": name, "agent_name": name, "away_since": since, **part} for name, since in away.items()]
        return campaign(participants=parts)

    old = datetime.now(UTC) - timedelta(days=30)
    notes = AwayNotes()
    assert notes.changes(at(ada=None, bob=None)) == []
    assert notes.changes(at(ada=old, bob=None)) == [f"ada is away since {old.astimezone():%Y-%m-%d %H:%M}"]
    assert notes.changes(at(ada=old, bob=None)) == []
    assert notes.changes(at(ada=None, bob=None)) == ["ada is back"]
    many = {f"agent{number}": old for number in range(7)}
    assert away_in_words(at(**many)).endswith(" and 2 more")
    assert away_in_words(at(ada=None)) == ""


def test_it_says_whose_update_is_held_by_its_owner() -> None:
    page = printed(client(0, held_round=7), client(1))
    words = re.sub(r"\s+", " ", page)
    assert "its owner holds the" in words
    assert words.count("holds") == 1
    assert max(map(len, page.splitlines())) <= 80
