"""An owner's report on a real campaign of three owners: the right numbers, and nothing that leaves unasked."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.record.bookings import WorkKind
from agent.record.record import OwnerRecord
from shared.metrics import HELD_OUT_LOSS
from tests.e2e.three_owners import Owners, completed, typed
from tests.support.connections import Connections
from tests.support.ledgers import ledger_of
from tests.support.processes import ROOT
from tests.support.recording_proxy import recording_proxy

pytestmark = pytest.mark.train

QUICK = ("--max-new-tokens", "12")


@pytest.fixture(scope="module")
def owners(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owners]:
    with completed(tmp_path_factory.mktemp("owners")) as found:
        yield found


def change(home: Path, before: str, after: str) -> None:
    path = home / "agent.toml"
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def losses(document: dict[str, Any]) -> dict[str, float]:
    return {model["name"]: model["metrics"][HELD_OUT_LOSS] for model in document["models"]}


@pytest.mark.deep
def test_the_report_has_the_records_losses_and_connects_to_nothing(owners: Owners, tmp_path: Path) -> None:
    home, page = owners.home("ada"), tmp_path / "gain.html"
    connections = Connections(tmp_path / "recorder", ROOT)
    entries = len(ledger_of(home))
    found = owners.numbers("ada", "--alone", "-o", page, *QUICK, **connections.environment)
    assert connections.made == []
    assert connections.n_processes >= 2, "the command and its training child"
    assert typed("agent", "pull", "tiny", "-o", tmp_path / "pulled", "--home", home, **connections.environment).stdout
    assert connections.made, "the recorder sees connections"
    entries += 3  # of the pull
    assert len(ledger_of(home)) == entries
    assert (found["sent"], "policy.report_gain = false" in found["not_sent"]) == ([], True)

    record = OwnerRecord(home)
    own = {
        f"adapter {each.round}": each.metrics[HELD_OUT_LOSS]
        for each in record.measured.standing(owners.campaign_id, WorkKind.EVALUATE)
    }
    measured = losses(found)
    assert list(measured) == ["base", "alone", "adapter 1", "adapter 2", "adapter 3"]
    assert measured["base"] == pytest.approx(own["adapter 0"], rel=1e-6), "adapter 0 adds nothing"
    assert {name: measured[name] for name in own if name != "adapter 0"} == {
        name: pytest.approx(value, rel=1e-6) for name, value in own.items() if name != "adapter 0"
    }
    assert measured["alone"] < measured["base"]
    assert (found["n_held_out"], found["n_asked"], found["alone_steps"]) == (6, 6, 24)
    adapter = found["models"][-1]
    for difference in adapter["differences"]:
        by_hand = measured["adapter 3"] - measured[difference["than"]]
        assert difference["loss"]["value"] == pytest.approx(by_hand, abs=1e-5), "all rows were asked"
        assert difference["loss"]["low"] <= difference["loss"]["value"] <= difference["loss"]["high"]
    held = [json.loads(line) for line in (home / "held.jsonl").read_text().splitlines()]
    assert [each["expected"] for each in found["answers"]] == [row["output"] for row in held]
    right = sum(each["answers"]["adapter 3"].strip() == each["expected"] for each in found["answers"])
    assert (adapter["exact"]["n_right"], adapter["exact"]["n"]) == (right, 6)

    assert page.stat().st_mode & 0o777 == 0o600
    text = page.read_text()
    assert held[0]["instruction"] in text
    assert "This page holds rows" in text
    assert "http" not in text.replace("http-equiv", ""), "it needs nothing from outside"
    folder = home / "alone" / owners.campaign_id
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not (home / "report" / "work").exists()

    again = owners.report("ada", *QUICK, "--adapter", "3", "--rows", "2")
    assert again.returncode == 0, again.stderr
    assert "training alone" not in again.stderr, "it is kept"
    assert "2 of them, drawn at random" in again.stdout
    assert "nothing was sent" in again.stdout
    assert max(map(len, again.stdout.splitlines())) <= 80


@pytest.mark.soak
def test_the_model_alone_is_what_a_campaign_of_one_client_makes(owners: Owners, tmp_path: Path) -> None:
    found = owners.numbers("ada", "--alone", *QUICK, "--adapter", "3", "--rows", "1")
    [alone] = [model for model in found["models"] if model["kind"] == "alone"]
    with completed(tmp_path / "one", names=("ada",)) as one:
        path = f"/v1/campaigns/{one.campaign_id}/adapters/3"
        assert alone["sha256"] == one.coordinator.operator.get(path)["blob"]["sha256"]


@pytest.mark.soak
def test_with_consent_three_numbers_an_adapter_leave_and_nothing_else(owners: Owners) -> None:
    home = owners.home("bob")
    change(home, "[policy]\n", "[policy]\nreport_gain = true\n")
    identity = (home / "identity.json").read_text()
    with recording_proxy(owners.coordinator.url) as recorder:
        (home / "identity.json").write_text(identity.replace(owners.coordinator.url, recorder.url))
        without = owners.numbers("bob", *QUICK)
        assert recorder.sent == [], "a gain needs the model alone"
        assert "there is no model trained alone" in without["not_sent"]
        found = owners.numbers("bob", "--alone", *QUICK)
        measured = losses(found)
        expected = [
            {
                "base": float(f"{measured['base']:.3g}"),
                "alone": float(f"{measured['alone']:.3g}"),
                "adapter": float(f"{measured[f'adapter {number}']:.3g}"),
            }
            for number in (1, 2, 3)
        ]
        assert [each.body for each in recorder.sent] == expected
        digests = [model["sha256"] for model in found["models"] if model["kind"] == "adapter"]
        path = f"/v1/agents/me/campaigns/{owners.campaign_id}/gains"
        assert [(each.method, each.path) for each in recorder.sent] == [("PUT", f"{path}/{each}") for each in digests]
        noted = [entry.says.body for entry in ledger_of(home) if getattr(entry.says, "purpose", "") == "gain"]  # type: ignore[union-attr]
        assert noted == expected
        assert [each["adapter"] for each in found["sent"]] == [1, 2, 3]
        change(home, "report_gain = true", "report_gain = false")
        withdrawn = owners.numbers("bob", *QUICK, "--adapter", "3")
        assert (len(recorder.sent), withdrawn["sent"]) == (3, [])
        assert [each["adapter"] for each in withdrawn["told"]] == [1, 2, 3], "what left before is remembered"
    (home / "identity.json").write_text(identity)
    rows = owners.coordinator.operator.items(f"/v1/campaigns/{owners.campaign_id}/gains")
    assert [{name: row[name] for name in ("base", "alone", "adapter")} for row in rows] == expected
    shown = typed(
        *("campaign", "show", "tiny"), FEDLOOM_URL=owners.coordinator.url, FEDLOOM_KEY=owners.coordinator.operator.key
    )
    assert "what owners gain" in shown.stdout
    assert "bob" in shown.stdout.partition("what owners gain")[2]


@pytest.mark.soak
def test_what_cannot_be_reported_is_told_with_what_to_do(owners: Owners, tmp_path: Path) -> None:
    home = owners.home("cyd")

    def refused(*options: object, code: int = 1) -> str:
        ran = owners.report("cyd", *options)
        assert ran.returncode == code, ran.stdout + ran.stderr
        return " ".join(ran.stderr.split())

    cached = list((home / "cache" / "adapters").iterdir())
    kept = {path: path.read_bytes() for path in cached}
    for path in cached:
        path.unlink()
    assert "no adapter of tiny is on this machine. Get one with `fedloom agent pull tiny -o FOLDER`" in refused()
    pulled = tmp_path / "pulled"
    assert typed("agent", "pull", "tiny", "-o", pulled, "--home", home).returncode == 0
    found = owners.numbers("cyd", "--folder", pulled, *QUICK, "--rows", "1")
    assert [model["name"] for model in found["models"]] == ["base", "adapter 3"]
    assert found["missing"] == [1, 2], "the best one may be among them"
    for path, data in kept.items():
        path.write_bytes(data)
    assert "adapter 9 of tiny is not on this machine: here are 1, 2, 3" in refused("--adapter", "9")
    assert "adapter 0 of tiny adds nothing to the base model" in refused("--adapter", "0")
    damaged = next(path for path in kept if path.name == found["models"][-1]["sha256"])
    damaged.write_bytes(kept[damaged][:-100])
    assert owners.numbers("cyd", *QUICK, "--rows", "1")["missing"] == [3]
    damaged.write_bytes(kept[damaged])
    weights = pulled / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert "no adapter of these bytes was signed for it" in refused("--folder", pulled)
    assert "knows no campaign" in typed("agent", "report", "nothing", "--home", home).stderr

    held = home / "held.jsonl"
    text = held.read_text()
    held.write_text(text.replace("slowly", "fast", 1))
    assert "the rows are not those that the campaign was prepared with" in refused(*QUICK)
    held.write_text(text)
    change(home, str(owners.model), str(tmp_path / "nowhere"))
    assert "the folder of org/tiny does not exist: map org/tiny to its folder under [models]" in refused(*QUICK)
    from tests.support.tiny import make_model

    other = make_model(tmp_path / "other", seed=1)
    change(home, str(tmp_path / "nowhere"), str(other))
    assert "weights" in refused(*QUICK)
    change(home, str(other), str(owners.model))
    change(home, "[models]\n", "[models]\n# ")
    connections = Connections(tmp_path / "recorder", ROOT)
    ran = owners.report("cyd", *QUICK, **connections.environment)
    assert (ran.returncode, connections.made) == (1, []), "a base model that is not here is not fetched"
    assert "org/tiny could not be downloaded from the hub: nothing may be fetched" in " ".join(ran.stderr.split())
