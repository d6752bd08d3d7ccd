"""What a failure for want of memory tells of the lengths of rows."""

import json
from collections.abc import Callable

import pytest

from agent.configuration.open_policy import with_open_policy
from tests.agent.parts import Home
from tests.support.operator import Operator
from tests.support.processes import wait_until
from tests.support.scripted import campaign_body

SIZES = "out of memory at a peak of 1.0 GiB with one row at a time; the longest row has 77 tokens"


@pytest.mark.deep
@pytest.mark.parametrize("report", ["round", "none", "live"])
def test_the_longest_row_and_the_peak_leave_only_live_and_are_shown_to_the_owner(
    report: str,
    new_home: Callable[[str], Home],
    operator: Operator,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "agent")
    monkeypatch.setenv("FEDLOOM_RECORDED", json.dumps({"fits": 0}))
    home = new_home("ada")
    own = f'[policy]\nreport = "{report}"\n\n[data.notes]\npath = "notes.jsonl"\n'
    (home.folder / "agent.toml").write_text(with_open_policy(own))
    with home.running():
        operator.post("/v1/campaigns", campaign_body(selection={"minimum": 1}))
        wait_until(lambda: home.sent("failure"), "a failure", 60)
    [message] = {each["message"] for each in home.sent("failure")}
    said = SIZES if report == "live" else "out of memory with one row at a time"
    assert message == f"{said}; lower max_length, or use a smaller base model"
    assert any(SIZES in line for line in caplog.messages)
