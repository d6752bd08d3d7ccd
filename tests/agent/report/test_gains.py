"""Which numbers of a report may leave: three rounded losses an adapter, if its owner's settings let them."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.configuration.policy import PolicySettings
from agent.configuration.settings import AgentSettings
from agent.data.source import DataSource
from agent.orders.measure import MeasuredRows
from agent.record.campaigns import Decision
from agent.record.gains import Gain, GainRecord
from agent.record.record import OwnerRecord
from agent.report.gains import gains_of, send
from agent.report.measuring import MeasuredModel, Model, ModelKind
from agent.report.report import OwnReport
from agent.report.subject import Subject
from agent.workspace import Identity, Workspace
from tests.agent.parts import SHA
from tests.cli.owner.known import known_campaign
from tests.support.ledgers import ledger_of

LOSSES = {"base": 2.34567, "alone": 1.98765, "adapter": 1.23456}


def measured(kind: ModelKind, loss: float, n_distinct: int = 25) -> MeasuredModel:
    model = Model(kind, 3 if kind is ModelKind.ADAPTER else 0, SHA, Path("there"))
    return MeasuredModel(
        model, MeasuredRows(metrics={"held_out_loss": loss}, n_held_out=30, n_distinct=n_distinct, rows=[])
    )


def report_of(
    home: Path, *, n_distinct: int = 25, has_alone: bool = True, losses: Any = LOSSES, **policy: Any
) -> OwnReport:
    known = known_campaign(n_train=50, n_distinct=50, n_held_out=25)
    identity = Identity(coordinator="http://127.0.0.1:9", agent_id="a", name="ada", secret="x", signing_key="0" * 64)
    settings = AgentSettings(policy=PolicySettings.model_validate(policy))
    accepted = replace(known, decision=Decision.ACCEPTED)
    assert accepted.prepared is not None
    subject = Subject(
        Workspace(home), identity, settings, accepted, accepted.prepared, DataSource(path=Path("rows.jsonl"))
    )
    kinds = [kind for kind in ModelKind if has_alone or kind is not ModelKind.ALONE]
    models = [measured(kind, losses[kind], n_distinct) for kind in kinds]
    return OwnReport(subject, models, 24, "" if has_alone else "none was trained")


def test_three_losses_with_three_digits(tmp_path: Path) -> None:
    gains, why = gains_of(report_of(tmp_path, report_gain=True))
    assert (gains, why) == ([Gain("c1", SHA, 3, 2.35, 1.99, 1.23)], "")
    live, _ = gains_of(report_of(tmp_path, report_gain=True, report="live"))
    assert live == gains, "rounded whatever else leaves in full"


@pytest.mark.parametrize(
    ("policy", "changes", "why"),
    [
        ({}, {}, "policy.report_gain = false"),
        ({"report_gain": True, "report": "none"}, {}, 'policy.report = "none"'),
        ({"report_gain": True, "min_held_out": 26}, {}, "policy.min_held_out = 26"),
        ({"report_gain": True}, {"n_distinct": 19}, "policy.min_held_out = 20"),
        ({"report_gain": True}, {"has_alone": False}, "there is no model trained alone"),
        ({"report_gain": True}, {"losses": LOSSES | {"base": 1e12}}, "not numbers that can be told"),
    ],
)
def test_nothing_leaves_without_consent_rows_and_all_three(
    tmp_path: Path, policy: dict[str, Any], changes: dict[str, Any], why: str
) -> None:
    gains, said = gains_of(report_of(tmp_path, **changes, **policy))
    assert gains == []
    assert why in said


@pytest.mark.parametrize("decision", [Decision.LEFT, Decision.PAUSED, Decision.REFUSED, Decision.WAITING])
def test_nothing_leaves_for_a_campaign_that_is_not_accepted(tmp_path: Path, decision: Decision) -> None:
    report = report_of(tmp_path, report_gain=True)
    subject = replace(report.subject, known=replace(report.subject.known, decision=decision))
    gains, said = gains_of(replace(report, subject=subject))
    assert (gains, said) == ([], f"small is {decision}, so nothing is sent for it")


def test_what_did_not_leave_is_dropped_and_what_left_stays(tmp_path: Path) -> None:
    record = OwnerRecord(tmp_path)
    record.create()
    gains: GainRecord = record.gains
    first, second = Gain("c1", "a" * 64, 1, 3.0, 2.0, 1.0), Gain("c1", "b" * 64, 2, 3.0, 2.0, 0.5)
    gains.note([first, second])
    gains.sent(first)
    gains.drop_unsent()
    [kept] = gains.of_campaign("c1")
    assert replace(kept, sent_at=None) == first
    assert kept.sent_at is not None


def test_consent_that_is_withdrawn_after_the_report_sends_nothing(tmp_path: Path) -> None:
    report = report_of(tmp_path, report_gain=True)
    workspace = report.subject.workspace
    workspace.create()
    workspace.record.create()
    workspace.settings_file.write_text("[policy]\nreport_gain = false\n")
    gains, _ = gains_of(report)
    sent, why = asyncio.run(send(report.subject, gains))
    assert (sent, "policy.report_gain = false" in why) == ([], True)
    assert ledger_of(tmp_path) == []
