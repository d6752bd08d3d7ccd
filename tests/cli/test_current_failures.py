"""`fedloom campaign show` tells what is wrong now, once, and what to do about it."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from fedloom.cli.campaign.current_failures import current_failures
from fedloom.cli.campaign.page import CampaignPage
from shared.kinds import find
from shared.wire.campaigns import CampaignDetail, ParticipantView, TaskView
from tests.support.scripted import FINGERPRINT, campaign_body

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LONG_NAME = "a-campaign-whose-name-is-so-long-that-it-does-not-fit-beside-its-command"


def part(name: str, state: str = "prepared", **changes: Any) -> ParticipantView:
    counts = {"client_number": None, "n_train": None, "n_held_out": None, "rank": None}
    return ParticipantView.model_validate({"agent_id": name, "agent_name": name, "state": state, **counts, **changes})


def task(agent: str, kind: str, state: str = "failed", round_number: int | None = None, **changes: Any) -> TaskView:
    failure = {"kind": "data", "message": "no such file"} if state == "failed" else None
    fields = {"id": "t", "campaign_id": "c1", "agent_id": agent, "agent_name": agent, "kind": kind, "state": state}
    rest = {"round": round_number, "attempt": 1, "progress": None, "failure": failure, "created_at": NOW}
    return TaskView.model_validate({**fields, **rest, "ended_at": None, **changes})


def campaign(*parts: ParticipantView, **changes: Any) -> CampaignDetail:
    blank = {"reason": None, "ended_at": None, "final_adapter": None, "best_adapter": None}
    fields = {"id": "c1", "name": "small", "state": "running", "rounds_closed": 2, "rounds": 9, "created_at": NOW}
    more = {"spec": campaign_body(rounds=9), "spec_sha256": "d" * 64, "participants": parts, "fingerprint": FINGERPRINT}
    metrics = list(find("sft").metrics.values())
    return CampaignDetail.model_validate({**blank, **fields, **more, "metrics": metrics, **changes})


def shown(
    detail: CampaignDetail, failed: list[TaskView] | None = None, tasks: list[TaskView] | None = None, width: int = 80
) -> str:
    failures = current_failures(detail, failed or [], tasks or [])
    file = io.StringIO()
    CampaignPage(detail, [], [], {}, tasks or [], failures).print(Console(file=file, width=width))
    return file.getvalue()


@pytest.mark.parametrize(
    ("failed", "participant", "again", "is_current"),
    [
        (task("ada", "prepare"), part("ada", "failed"), [], True),
        (task("ada", "prepare"), part("ada", "prepared"), [], False),
        (task("ada", "prepare"), part("ada", "preparing"), [], False),
        (task("ada", "init"), part("ada"), [], False),  # rounds have closed since
        (task("ada", "train", round_number=3), part("ada"), [], True),
        (task("ada", "train", round_number=3), part("ada"), [task("ada", "train", "pending", 3)], False),
        (task("ada", "train", round_number=3), part("ada"), [task("bob", "train", "pending", 3)], True),
        (task("ada", "train", round_number=2), part("ada"), [], False),
        (task("ada", "train", round_number=2), part("ada", failures_in_a_row=1), [], True),
        (task("ada", "train", round_number=3), part("ada", revoked=True), [], False),
        (task("ada", "evaluate", round_number=1), part("ada"), [], True),
    ],
)
def test_a_failure_is_current_until_its_agent_got_over_it_or_tries_again(
    failed: TaskView, participant: ParticipantView, again: list[TaskView], *, is_current: bool
) -> None:
    assert bool(current_failures(campaign(participant), [failed], again)) is is_current


def test_of_a_campaign_that_is_over_only_failed_evaluations_are_current() -> None:
    failed = [task("ada", "train", round_number=3), task("ada", "evaluate", round_number=2)]
    assert current_failures(campaign(part("ada"), state="completed"), failed, []) == failed[1:]


def test_a_reason_that_the_table_has_is_not_told_again_below_it() -> None:
    failed = part("ada", "failed", reason="no such file")
    page = shown(campaign(failed), [task("ada", "prepare")])
    assert page.count("no such file") == 1
    assert shown(campaign(part("ada")), [task("ada", "train", round_number=3)]).count("no such file") == 1


def test_a_task_that_waits_for_its_agent_shows_no_progress() -> None:
    progress = {"phase": "training", "done": 3, "total": 10}
    page = shown(campaign(part("ada")), tasks=[task("ada", "train", "pending", 3, progress=progress)])
    assert ("waits for its agent" in page, "3/10" in page) == (True, False)
    page = shown(campaign(part("ada")), tasks=[task("ada", "train", "leased", 3, progress=progress)])
    assert ("waits for its agent" in page, "3/10" in page) == (False, True)


@pytest.mark.parametrize("state", ["preparing", "prepared", "failed"])
def test_a_revoked_agent_is_called_revoked_whatever_it_was(state: str) -> None:
    page = shown(campaign(part("ada", state, revoked=True, reason="3 rows are left out"), part("bob", client_number=1)))
    [row] = [line for line in page.splitlines() if "ada" in line]
    assert row.split() == ["ada", "revoked"]
    assert "left out" not in page


@pytest.mark.parametrize(
    ("state", "command"),
    [
        ("paused", "  fedloom campaign resume {}"),
        ("completed", "  fedloom adapter pull {0} --out {0}-adapter"),
        ("running", "  fedloom campaign pause {0}\n  fedloom campaign resume {0}"),
    ],
)
def test_a_command_to_copy_stays_on_one_line_on_a_narrow_terminal(state: str, command: str) -> None:
    detail = campaign(part("ada", "failed", reason="no such file"), name=LONG_NAME[:64], state=state, final_adapter=2)
    assert f"\n{command.format(detail.name)}\n" in shown(detail, width=40)


@pytest.mark.parametrize(
    ("participant", "state", "is_told"),
    [
        (part("ada", "failed", reason="no such file"), "preparing", True),
        (part("ada", "mismatched", reason="another base"), "running", True),
        (part("ada", "failed", reason="no such file"), "paused", False),  # to resume is enough
        (part("ada", "failed", reason="no such file"), "completed", False),
        (part("ada", "failed", revoked=True), "running", False),
        (part("ada"), "running", False),
    ],
)
def test_it_says_how_agents_that_failed_get_another_try(
    participant: ParticipantView, state: str, *, is_told: bool
) -> None:
    page = shown(campaign(participant, state=state))
    assert ("fedloom campaign pause small" in page) is is_told
