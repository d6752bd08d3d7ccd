"""What an oversight of the training child says of this machine is taken out of what really leaves."""

import json
from pathlib import Path

import pytest

from tests.agent.parts import prepare_assignment, train_assignment
from tests.agent.scripted_coordinator import scripted_coordinator
from tests.support.recorded_child import FINGERPRINT

PATH = "/srv/hospital-east/anna-huber.jsonl"


def test_a_path_in_a_notice_or_a_failure_does_not_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"notices": [f"{PATH} is odd"], "failure": f"cannot read {PATH}: gone"}
    monkeypatch.setenv("FEDLOOM_RECORDED", json.dumps(said))
    with scripted_coordinator(tmp_path) as coordinator, coordinator.enroll(tmp_path / "home").running():
        prepared = coordinator.do(prepare_assignment())
        task = train_assignment(fingerprint=FINGERPRINT.model_dump(), adapter=coordinator.adapter_ref)
        failed = coordinator.do(task)
    assert prepared.result is not None, prepared.failure
    assert prepared.result["notices"] == ["… is odd"]
    assert failed.failure == {"kind": "data", "message": "cannot read …: gone"}
