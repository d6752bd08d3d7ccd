"""Everything that agent processes send in a whole campaign, against a list of what each ``policy.report`` lets out."""

import math
from collections.abc import Iterator
from contextlib import ExitStack
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.support.operator import Operator
from tests.support.processes import QuickAgent, QuickCoordinator, ended
from tests.support.recording_proxy import Recorder, recording_proxy
from tests.support.scripted import campaign_body

LEVELS = {"none": "none", "round": "round", "live": "live", "few": "round"}
"""The agents by name, with their ``policy.report``; few has too few held-out rows."""
TRAINING = {
    "train_loss_first": 2.345678901,
    "train_loss_last": 1.234567891,
    "train_loss_mean": 1.8765432109,
    "tokens": 43251,
    "seconds": 12.34567,
    "tokens_per_s": 3503.3367,
    "peak_memory_bytes": 1234567890,
    "reward_margin": -0.00123456789,
    "reward_accuracy": 0.99987654,
}
EVALUATION = {"held_out_loss": 0.691234567, "held_out_margin": -12345.678, "held_out_accuracy": 0.5678912}
STEP = {"reward_margin": 0.123456789, "reward_accuracy": 0.875}
MACHINE = {"peak_memory_bytes": 11_987_654_321, "gpu_memory_bytes": 24_123_456_789, "gpu_utilization": 0.876543}
HELD_OUT = {"few": 19}
ALWAYS = {"phase", "done", "total"}
OF_ROUND = {"steps", "seconds", "train_loss_mean", "reward_margin", "reward_accuracy"}
OF_EVALUATION = {"held_out_loss", "held_out_margin", "held_out_accuracy", "held_out_rows", "held_out_tokens"}


ENROLMENT = {"token", "name", "version", "secret_hash"}
LEASE = {"instance_id", "version", "statements", "statements.CAMPAIGN"}
MEASURED = {"loss", "tokens_per_s", "metrics", "seconds_left", *MACHINE}
RENEWAL = {"progress", *(f"progress.{name}" for name in ALWAYS | MEASURED)}
UPLOAD = {"purpose", "sha256", "n_bytes"}
PREPARED = {"rank", "cpu_dtype", "n_train", "n_held_out", "dropped", "report", "evaluates", "notices"}
FINGERPRINT = {f"fingerprint.{part}" for part in ("weights", "config", "tokenizer", "template")}
DONE = {"kind", "adapter", "delta", "extras", "client_state_lost", "trained_on", "metrics"}
FIELDS = ENROLMENT | LEASE | RENEWAL | PREPARED | FINGERPRINT | DONE
"""The fields of all requests of agents."""
QUERIES = UPLOAD | {"since"}
"""The parameters of all their queries."""


class Behind(NamedTuple):
    """Stands for the coordinator when an agent enrols through its proxy."""

    url: str
    operator: Operator


class Campaign(NamedTuple):
    """A campaign that ended. sent: by agent; the same for logs."""

    operator: Operator
    path: str
    sent: dict[str, Recorder]
    logs: dict[str, str]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """Two rounds of preference training by an agent process of each level."""
    folder = tmp_path_factory.mktemp("levels")
    with ExitStack() as stack:
        coordinator = QuickCoordinator(folder / "coordinator")
        stack.enter_context(ended(coordinator))
        operator, sent, agents = coordinator.operator, {}, {}
        for name, level in LEVELS.items():
            sent[name] = stack.enter_context(recording_proxy(coordinator.url))
            policy = f'[policy]\nreport = "{level}"\nmin_rows = 40\nmin_held_out = 20\n'
            measured = {"training": TRAINING, "evaluation": EVALUATION, "step": STEP, "machine": MACHINE}
            held_out = HELD_OUT.get(name, 20)
            behind = Behind(sent[name].url, operator)
            agents[name] = QuickAgent.recorded_one(
                behind, folder, name, 40, policy, held_out=held_out, step_s=0.08, **measured
            )
            agents[name].start()
        stack.enter_context(ended(*agents.values()))
        body = campaign_body(kind="dpo", rounds=2, evaluation={"every": 1}, selection={"minimum": 4})
        body["training"] = {"steps": 20, "batch_size": 2}
        campaign_id = operator.post("/v1/campaigns", body)["id"]
        operator.wait_for(campaign_id, "completed")
        for name, agent in agents.items():  # an agent tells what it did after the coordinator has it
            agent.process.wait_to_print("round 2 of 2: trained")
            if name in ("round", "live"):
                agent.process.wait_to_print("adapter 2 on 20 held-out rows")
        logs = {name: agent.process.printed() for name, agent in agents.items()}
        yield Campaign(operator, f"/v1/campaigns/{campaign_id}", sent, logs)


def results(campaign: Campaign, name: str, kind: str) -> list[dict[str, Any]]:
    return [body for body in campaign.sent[name].bodies("/result") if body["kind"] == kind]


def progress(campaign: Campaign, name: str) -> list[dict[str, Any]]:
    sent = [each.body for each in campaign.sent[name].sent if each.method == "PATCH" and each.body is not None]
    return [body["progress"] for body in sent if body["progress"] is not None]


def told(report: dict[str, Any]) -> set[str]:
    """The fields of a report of progress that say something."""
    return {name for name, value in report.items() if value not in (None, {})}


def numbers(value: Any) -> Iterator[float]:
    """All numbers in a body."""
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from numbers(each)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield value


def fields(value: Any, path: str = "") -> Iterator[str]:
    """The names of all fields in a body, those of inner ones after a dot; metrics are one field."""
    if isinstance(value, dict) and not path.endswith("metrics"):
        for name, each in value.items():
            yield from fields(each, f"{path}.{name}".strip("."))
    else:
        yield path


def digits(value: float) -> int:
    """Significant digits of a number."""
    return len(Decimal(repr(value)).normalize().as_tuple().digits)


@pytest.mark.parametrize(
    ("name", "of_training", "of_evaluation"),
    [
        ("none", {"steps"}, set()),
        ("round", OF_ROUND, OF_EVALUATION),
        ("few", OF_ROUND, set()),
        ("live", {"steps", *TRAINING}, OF_EVALUATION),
    ],
)
def test_results_have_the_metrics_of_the_level_and_no_other(
    campaign: Campaign, name: str, of_training: set[str], of_evaluation: set[str]
) -> None:
    trained, evaluated = results(campaign, name, "train"), results(campaign, name, "evaluate")
    assert [set(each["metrics"]) for each in trained] == [of_training] * 2
    assert [set(each["metrics"]) for each in evaluated] == ([of_evaluation] * 3 if of_evaluation else [])
    [prepared] = results(campaign, name, "prepare")
    assert (prepared["report"], prepared["evaluates"]) == (LEVELS[name], bool(of_evaluation))


@pytest.mark.parametrize("name", LEVELS)
def test_phase_and_step_travel_always_and_what_steps_measure_only_live(campaign: Campaign, name: str) -> None:
    training = [each for each in progress(campaign, name) if each["phase"] == "training"]
    assert any(0 < each["done"] < each["total"] == 20 for each in training)
    measured = MEASURED if name == "live" else set()
    assert set().union(*map(told, progress(campaign, name))) == ALWAYS | measured


@pytest.mark.parametrize("name", LEVELS)
def test_every_field_of_every_request_is_known(campaign: Campaign, name: str) -> None:
    campaign_id = campaign.path.rpartition("/")[2]
    sent = campaign.sent[name].sent
    told_of = {field for each in sent if each.body is not None for field in fields(each.body)}
    told_of = {field.replace(campaign_id, "CAMPAIGN") for field in told_of}
    assert told_of <= FIELDS, told_of - FIELDS
    queries = {parameter for each in sent for parameter in parse_qs(urlsplit(each.path).query)}
    assert queries == QUERIES


@pytest.mark.parametrize("name", ["none", "round", "few"])
def test_nothing_that_was_measured_leaves_in_full_by_any_request(campaign: Campaign, name: str) -> None:
    exact = {*TRAINING.values(), *EVALUATION.values(), *STEP.values(), *MACHINE.values()}
    for each in campaign.sent[name].sent:
        assert not exact & set(numbers(each.body)), each
    metrics = [body["metrics"] for kind in ("train", "evaluate") for body in results(campaign, name, kind)]
    assert {number for number in numbers(metrics) if digits(number) > 3} == set()


def test_live_is_in_full(campaign: Campaign) -> None:
    assert all(each["metrics"] == {"steps": 20, **TRAINING} for each in results(campaign, "live", "train"))
    assert all(EVALUATION.items() <= each["metrics"].items() for each in results(campaign, "live", "evaluate"))


def test_rounded_numbers_are_near_the_measured_ones(campaign: Campaign) -> None:
    for kind, measured in (("train", TRAINING), ("evaluate", EVALUATION)):
        for body in results(campaign, "round", kind):
            for name in body["metrics"].keys() & measured.keys():
                assert math.isclose(body["metrics"][name], measured[name], rel_tol=0.005)


def test_means_are_over_those_who_report_and_say_so(campaign: Campaign) -> None:
    rows = campaign.operator.all_items(f"{campaign.path}/metrics")
    means = {(row["name"], row["round"]): row for row in rows if row["client_number"] is None}
    for name, n_clients in (("train_loss_first", 1), ("train_loss_mean", 3), ("held_out_loss", 2)):
        row = means[name, 2]
        assert (row["n_clients"], row["of_clients"]) == (n_clients, 4)
    assert means["train_loss_mean", 2]["value"] == pytest.approx((1.88 * 2 + TRAINING["train_loss_mean"]) / 3)
    assert means["held_out_loss", 0]["value"] == pytest.approx((0.691 + EVALUATION["held_out_loss"]) / 2)
    assert means["update_norm", 2]["n_clients"] is None
    adapter = campaign.operator.get(f"{campaign.path}/adapters/2")
    assert (adapter["n_clients"], adapter["of_clients"]) == (2, 4)


def test_the_coordinator_says_of_each_client_what_its_owner_lets_out(campaign: Campaign) -> None:
    clients = {each["agent_name"]: each for each in campaign.operator.all_items(f"{campaign.path}/clients")}
    states = {name: (each["report"], each["evaluation"]) for name, each in clients.items()}
    assert states == {
        "none": ("none", "withheld"),
        "round": ("round", "evaluated"),
        "live": ("live", "evaluated"),
        "few": ("round", "too few rows"),
    }


@pytest.mark.parametrize("name", LEVELS)
def test_the_owner_sees_everything_and_once_that_it_is_not_sent(campaign: Campaign, name: str) -> None:
    log = campaign.logs[name]
    assert ", loss 1.000, reward margin 0.1235" in log
    assert "memory 12.0 GB of 24.1 GB, GPU 88%" in log
    sent = {"none": " (not sent)", "live": ""}.get(name, " (sent: the mean, 1.88)")
    assert f"trained 20 steps on 40 rows, loss 2.35 -> 1.23{sent}, sent " in log
    note = f'losses and speed of single steps are shown here and not sent: policy.report = "{LEVELS[name]}"'
    assert log.count(note) == (0 if name == "live" else 1)
    refused = "this agent takes part in no evaluation: an evaluation "
    why = {
        "none": 'reports losses, and policy.report = "none"',
        "few": "would stand on 19 held-out rows, and policy.min_held_out = 20",
    }
    assert log.count(refused) == (name in why)
    assert refused + why.get(name, "") in log or name not in why
    if name in ("round", "live"):
        own = (
            "held-out loss 0.6912 nats a pair, the same as after round 1 (0.6912) and the same as at the start (0.6912)"
        )
        assert f"adapter 2 on 20 held-out rows: {own}; held-out margin -12345.6780 nats" in log
