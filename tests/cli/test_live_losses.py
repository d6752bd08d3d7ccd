"""Whose losses of steps are missing while they train."""

import io
from typing import Any

import pytest
from rich.console import Console

from fedloom.cli.campaign.live_losses import withheld_live
from fedloom.cli.campaign.page import CampaignPage
from fedloom.cli.campaign.watch import Snapshot, _screen
from shared.wire.campaigns import CampaignDetail, ParticipantView, TaskView
from tests.cli.test_client_table import campaign

LEVELS = {"ada": "round", "bob": "none", "cyd": "live", "dan": None}


def detail() -> CampaignDetail:
    counts = {"client_number": None, "n_train": 10, "n_held_out": 2, "rank": 2, "state": "prepared"}
    of = {name: {"agent_id": name, "agent_name": name, "report": level, **counts} for name, level in LEVELS.items()}
    return campaign(participants=[ParticipantView.model_validate(each) for each in of.values()])


def task(name: str, **progress: Any) -> TaskView:
    reported = {"phase": "training", "done": 1, "total": 9, **progress} if progress != {"none": True} else None
    ids = {"id": name, "campaign_id": "c1", "agent_id": name, "agent_name": name, "kind": "train", "state": "leased"}
    rest = {"round": 1, "attempt": 1, "failure": None, "created_at": "2026-01-31T00:00:00Z", "ended_at": None}
    return TaskView.model_validate({**ids, **rest, "progress": reported})


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        ([], ""),
        ([task("cyd")], ""),
        ([task("dan")], ""),
        ([task("stranger")], ""),
        ([task("ada", phase="tokenizing")], ""),
        ([task("ada", none=True)], ""),
        ([task("ada", loss=1.5)], ""),
        ([task("bob"), task("cyd", loss=1.0)], "losses of steps withheld by its owner: bob"),
        ([task("bob"), task("ada")], "losses of steps withheld by their owners: ada, bob"),
    ],
)
def test_those_who_train_and_whose_owner_reports_no_live_loss_are_named(tasks: list[TaskView], said: str) -> None:
    assert withheld_live(detail(), tasks) == said


def test_show_and_watch_name_them_below_the_tasks() -> None:
    tasks = [task("bob"), task("ada")]
    screen = _screen(Snapshot(detail(), tasks=tasks), [], 5, 80)
    for print_on in (CampaignPage(detail(), [], [], {}, tasks, []).print, lambda console: console.print(screen)):
        file = io.StringIO()
        print_on(Console(file=file, width=80))
        assert "losses of steps withheld by their owners: ada, bob" in file.getvalue().splitlines()
