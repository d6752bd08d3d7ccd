"""What of a report leaves, if its owner has ``policy.report_gain``: three rounded losses an adapter, and no more."""

import math
from dataclasses import replace

from agent.configuration.settings import load_settings
from agent.errors import AgentError, CoordinatorRefused
from agent.network.api import CoordinatorApi
from agent.policy.disclosure import gain_refusals, rounded_loss
from agent.record.campaigns import Decision
from agent.record.gains import Gain
from agent.report.report import OwnReport
from agent.report.subject import Subject
from shared.wire.gains import MAX_LOSS, GainRequest


def gains_of(report: OwnReport) -> tuple[list[Gain], str]:
    """What leaves of a report, and why nothing does; empty if something does.

    The settings are those of the report's beginning.
    """
    subject, alone = report.subject, report.alone
    n_distinct = min(subject.prepared.n_distinct_held_out, report.base.found.n_distinct)
    if refusals := gain_refusals(subject.settings.policy, n_distinct):
        return [], "; ".join(map(str, refusals))
    if problem := _may_not_send(subject):
        return [], problem
    if alone is None:
        return [], f"there is no model trained alone: {report.no_alone}"
    found = []
    for each in report.adapters:
        values = (report.base.loss, alone.loss, each.loss)
        assert each.model.sha256 is not None
        if all(math.isfinite(value) and abs(value) <= MAX_LOSS for value in values):
            base, own, loss = map(rounded_loss, values)
            found.append(Gain(subject.known.id, each.model.sha256, each.model.number, base, own, loss))
    return found, "" if found else "the losses are not numbers that can be told"


def _may_not_send(subject: Subject) -> str:
    """Why nothing of the campaign may be sent; empty if it may."""
    known = subject.known
    if known.decision is not Decision.ACCEPTED:
        return f"{known.name} is {known.decision}, so nothing is sent for it"
    if known.terms.agent_id != subject.identity.agent_id:
        return "this agent enrolled again since it took part"
    return ""


async def send(subject: Subject, gains: list[Gain]) -> tuple[list[Gain], str]:
    """Send gains that the record has, each in the ledger first. Returns those that left, and why others did not.

    The settings are read again before each: consent that was withdrawn meanwhile stops what has not left.
    """
    sent: list[Gain] = []
    workspace = subject.workspace
    api = CoordinatorApi.of(subject.identity, workspace.ledger, subject.settings.network)
    try:
        for gain in gains:
            if problem := _refused_now(subject):
                return sent, problem
            body = GainRequest(base=gain.base, alone=gain.alone, adapter=gain.loss)
            await api.tell_gain(gain.campaign_id, gain.adapter, body)
            workspace.record.gains.sent(gain)
            sent.append(gain)
    except CoordinatorRefused as refused:
        return sent, f"the coordinator refused it: {refused}"
    except (AgentError, OSError) as error:
        return sent, str(error)
    finally:
        await api.close()
    return sent, ""


def _refused_now(subject: Subject) -> str:
    """What settings and record say against it by now; empty if nothing does."""
    workspace = subject.workspace
    policy = load_settings(workspace.settings_file).policy
    if refusals := gain_refusals(policy, subject.prepared.n_distinct_held_out):
        return "; ".join(map(str, refusals))
    known = workspace.record.campaigns.find(subject.known.id)
    return _may_not_send(replace(subject, known=known)) if known is not None else "the campaign was forgotten"
