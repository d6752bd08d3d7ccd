"""How `fedloom campaign show` presents slow, failing and new agents."""

import io
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from rich.console import Console

from fedloom.cli.campaign.page import CampaignPage, failures_grouped
from shared.kinds import find
from shared.states import CampaignState
from shared.wire.campaigns import CampaignDetail, ParticipantView, RoundView, TaskView
from tests.support.scripted import FINGERPRINT, campaign_body

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def part(name: str, number: int | None, **changes: Any) -> ParticipantView:
    fields = {"agent_id": name, "agent_name": name, "state": "prepared", "client_number": number, "n_train": 10}
    return ParticipantView.model_validate({**fields, "n_held_out": 0, "rank": 2, **changes})


def printed(
    *parts: ParticipantView,
    rounds: list[RoundView] | None = None,
    tasks: list[TaskView] | None = None,
    whole: bool = False,
    width: int = 120,
    **changes: Any,
) -> str:
    fields = {
        "id": "c1",
        "name": "small",
        "state": "running",
        "reason": None,
        "rounds_closed": 6,
        "rounds": 9,
        "created_at": NOW,
        "ended_at": None,
        "final_adapter": None,
        "best_adapter": None,
        "spec": campaign_body(rounds=9),
        "spec_sha256": "ab" * 32,
        "participants": parts,
        "fingerprint": FINGERPRINT,
        "metrics": list(find("sft").metrics.values()),
        **changes,
    }
    page = CampaignPage(CampaignDetail.model_validate(fields), [], rounds or [], {}, tasks or [], [])
    console = Console(file=io.StringIO(), width=width)
    page.print(console, whole=whole)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"set_aside_until": 7, "failures_in_a_row": 3}, "set aside until round 7 after 3 failures in a row"),
        ({"set_aside_until": 7, "failures_in_a_row": 1}, "set aside until round 7 after 1 failure"),
        (
            {"set_aside_until": 7, "failures_in_a_row": 2, "reason": "3 rows are left out"},
            "set aside until round 7 after 2 failures in a row; 1 notice, below",
        ),
        ({"set_aside_until": 6, "failures_in_a_row": 3}, ""),  # its last round set aside is before the open one
        ({"failures_in_a_row": 2}, ""),
        ({"client_number": None}, "joins in the next round"),
        ({"client_number": None, "state": "mismatched", "reason": "another base"}, "another base"),
    ],
)
def test_it_says_why_an_agent_is_not_drawn(changes: dict[str, Any], reason: str) -> None:
    row, *_ = [line for line in printed(part("ada", 0, **changes), part("bob", 1)).splitlines() if "ada" in line]
    assert row.partition("10         0")[2].strip() == reason


def test_notices_of_prepared_agents_are_listed_one_a_line_and_equal_ones_together() -> None:
    shared = "the experts of the base model stay frozen"
    page = printed(
        part("ada", 0, reason=f"{shared}; rows[/x].csv: line 3: [bold]"), part("bob", 1, reason=shared)
    ).splitlines()
    at = page.index("notices of prepared agents")
    assert page[at + 1 : at + 3] == [f"  ada, bob: {shared}", "  ada: rows[/x].csv: line 3: [bold]"]
    assert any("2 notices, below" in line for line in page)


def test_only_a_running_campaign_shows_agents_as_set_aside_or_joining() -> None:
    parts = part("ada", 0, set_aside_until=7, failures_in_a_row=3), part("bob", None)
    assert "set aside" not in printed(*parts, state=CampaignState.COMPLETED)
    assert "joins" not in printed(*parts, state=CampaignState.COMPLETED)
    assert "joins" not in printed(part("bob", None), state=CampaignState.PREPARING, fingerprint=None)
    assert "joins" not in printed(
        part("bob", None), state=CampaignState.PREPARING
    )  # a chain has its fingerprint from the start


def test_ranks_are_shown_if_a_client_trains_a_smaller_one() -> None:
    assert "RANK" not in printed(part("ada", 0), part("bob", None, state="preparing", rank=None))
    mixed = printed(part("ada", 0), part("bob", 1, rank=1), part("cyd", None, state="preparing", rank=None))
    rows = {line.split()[1]: line.split() for line in mixed.splitlines() if "prepar" in line}
    assert "STATE      RANK  ROWS" in mixed
    assert (rows["ada"][3:5], rows["bob"][3:5]) == (["2", "10"], ["1", "10"])


def test_what_each_agent_decided_is_shown_where_the_campaign_leaves_the_precision_open() -> None:
    parts = part("ada", 0, cpu_dtype="bfloat16"), part("bob", 1, cpu_dtype="float32"), part("cyd", 2)

    def shown(cpu_dtype: str) -> str:
        return printed(*parts, spec=campaign_body(base={"model": "tiny", "cpu_dtype": cpu_dtype}))

    left_open = shown("auto")
    assert "tiny, float32 or bfloat16 on a CPU, by its processor" in left_open
    assert "ON CPU" in left_open
    rows = {line.split()[1]: line.split() for line in left_open.splitlines() if "prepared" in line}
    assert [rows[name][3:5] for name in ("ada", "bob", "cyd")] == [["bfloat16", "10"], ["float32", "10"], ["10", "0"]]
    assert "tiny, bfloat16 on a CPU" in shown("bfloat16")
    assert "ON CPU" not in shown("bfloat16")
    assert "CPU" not in shown("float32")


def test_it_says_for_how_long_updates_are_kept_if_they_are() -> None:
    kept = campaign_body(rounds=9, retention={"updates": 3})
    assert "keeps each agent's update for 3 rounds (retention.updates)" in printed(spec=kept)
    assert "retention" not in printed()


def test_it_says_how_updates_are_sent_if_they_are_rounded() -> None:
    assert "sent in int8 (wire)" in printed(spec=campaign_body(rounds=9, wire="int8"))
    assert "sent in" not in printed()


def test_a_chain_is_shown_on_one_line() -> None:
    origins = [
        {"campaign_id": f"c{n}", "campaign_name": name, "kind": kind, "adapter_number": n, "sha256": f"{n}" * 64}
        for n, (name, kind) in enumerate([("tuned", "dpo"), ("taught", "sft")])
    ]
    shown = " ".join(printed(part("ada", 0), origins=origins).split())
    assert "starts from adapter 0 of tuned (dpo, 000000000000), which started from adapter 1 of taught (sft, " in shown
    assert "starts from" not in printed(part("ada", 0))


def test_of_many_agents_those_with_something_to_tell_are_shown_and_the_rest_are_counted() -> None:
    away = NOW - timedelta(days=2)
    parts = [part(f"agent-{n:02}", n) for n in range(60)]
    parts[41] = part("agent-41", 41, away_since=away)
    parts[57] = part("agent-57", None, state="failed", reason="no such file")
    page = printed(*parts)
    assert len(re.findall("agent-[0-9]+", page)) == 20
    assert ("agent-41" in page, "agent-57" in page, "agent-40" in page) == (True, True, False)
    assert f"away since {away.astimezone():%Y-%m-%d %H:%M}" in page
    assert "and 40 more; --all shows them" in page
    whole = printed(*parts, whole=True)
    assert "agent-40" in whole
    assert "more; --all" not in whole


def test_the_longest_name_hides_neither_a_reason_nor_a_number_on_a_narrow_terminal() -> None:
    name = "north-hospital-paediatrics-and-neonatology-ward-17-second-floor"
    fields = {"id": "t", "campaign_id": "c", "agent_id": "a", "agent_name": name, "kind": "train", "state": "leased"}
    progress = {"phase": "training", "done": 3, "total": 10, "loss": 1.2345, "tokens_per_s": 12345.0}
    more = {"round": 3, "attempt": 1, "progress": progress, "failure": None, "created_at": NOW, "ended_at": None}
    task = TaskView.model_validate({**fields, **more})
    failed = part(name, 0, state="failed", reason="no such file: rows.jsonl")
    page = printed(failed, part("bob", 1), tasks=[task], width=80)
    assert max(map(len, page.splitlines())) <= 80
    words = page.replace("\n", " ").split()
    assert {"rows.jsonl", "failed", "training", "3/10", "1.2345", "12345"} <= set(words)


def test_an_agent_of_a_campaign_that_is_over_is_not_called_away() -> None:
    parts = part("ada", 0, away_since=NOW), part("bob", 1)
    assert "away since" in printed(*parts)
    assert "away since" not in printed(*parts, state=CampaignState.COMPLETED)


def test_late_updates_are_counted_separately() -> None:
    def round_view(number: int, sampled: list[int], contributors: list[int]) -> RoundView:
        fields = {"state": "closed", "opened_at": NOW, "deadline_at": NOW, "closed_at": NOW, "learning_rate": 0.1}
        lists = {"eligible": sampled, "sampled": sampled, "contributors": contributors}
        return RoundView.model_validate({"number": number, **fields, **lists})

    rows = printed(
        part("ada", 0), rounds=[round_view(1, [0, 1, 2], [0, 1]), round_view(2, [0, 1], [0, 1, 2])]
    ).splitlines()
    assert ["2/3" in row for row in rows if "closed  " in row] == [True, False]
    assert ["2/2 + 1 late" in row for row in rows if "closed  " in row] == [False, True]


def test_equal_failures_share_a_line_and_the_latest_come_last() -> None:
    def failed(agent: str, message: str) -> TaskView:
        failure = {"kind": "data", "message": message}
        fields = {"id": "t", "kind": "train", "state": "failed", "round": 1, "agent_id": agent, "agent_name": agent}
        blank = {"campaign_id": "c1", "progress": None, "ended_at": None}
        return TaskView.model_validate({**fields, **blank, "attempt": 1, "created_at": NOW, "failure": failure})

    tasks = [failed("ada", "no such file"), failed("bob", "too long"), *[failed("eve", "no such file")] * 50]
    assert failures_grouped(tasks) == [
        ("bob, train task", "(data): too long"),
        ("ada, eve (50 times), train tasks", "(data): no such file"),
    ]
    names = [title for title, _ in failures_grouped([failed(f"a{n}", "full") for n in range(9)])]
    assert names == ["a0, a1, a2, a3, a4 and 4 more, train tasks"]


def test_who_gives_a_failed_agent_another_try_is_told_while_the_campaign_is_at_work() -> None:
    parts = part("ada", 0), part("bob", None, state="failed", reason="no such file")
    page = printed(*parts)
    _, _, after = page.partition("once the cause is mended, an agent tries again after its owner types:\n")
    assert after.startswith(
        "  fedloom agent approve small\nand all that failed try again after:\n"
        "  fedloom campaign pause small\n  fedloom campaign resume small\n"
    )
    assert "fedloom agent approve" not in printed(*parts, state=CampaignState.PAUSED)


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ("waiting", "waiting for its owner to accept the campaign"),
        ("paused", "paused by its owner"),
        ("left", "its owner has left the campaign"),
    ],
)
def test_what_an_owner_said_stands_beside_its_agent(state: str, reason: str) -> None:
    page = printed(part("ada", 0), part("bob", None, state=state, reason=reason, n_train=None), width=80)
    assert re.search(rf"bob +{state} ", page)
    assert reason in " ".join(page.split())
    assert "ab" * 32 in page, "the digest, to compare with owners"
    assert max(map(len, page.splitlines())) <= 80
    assert "once the cause is mended" not in page, "it is no failure"


@pytest.mark.parametrize(("state", "is_told"), [("waiting", True), ("paused", True), ("left", False)])
def test_an_agent_that_may_come_back_is_told_to_be_away(state: str, is_told: bool) -> None:
    page = printed(part("bob", None, state=state, reason="its owner said so", away_since=NOW))
    assert ("away since" in page) is is_told


def test_a_task_whose_update_is_held_says_so() -> None:
    fields = {"campaign_id": "c1", "kind": "train", "round": 7, "attempt": 1, "progress": None, "failure": None}
    states = {"ada": "held", "bob": "pending", "cyd": "leased"}
    tasks = [
        TaskView.model_validate(
            {**fields, "id": name, "agent_id": name, "agent_name": name, "state": state, "created_at": NOW}
            | {"ended_at": None}
        )
        for name, state in states.items()
    ]
    page = printed(tasks=tasks, width=80)
    for name, words in (("ada", "held by its owner"), ("bob", "waits for its agent"), ("cyd", "starting")):
        assert re.search(rf"^{name} +train +7 +{words}", page, re.MULTILINE)
