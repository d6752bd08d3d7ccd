"""What the owner's terminal says of a task: every phase, how fast it goes, what is left, what a silence waits for."""

import asyncio
import logging
from typing import Any

import pytest

from agent.child import progress_log
from agent.child.pace import Pace
from agent.child.progress_log import ProgressLog
from shared.kinds import dpo
from shared.metrics import by_name
from shared.wire.tasks.leases import Phase, Progress

QUIET_S = 15.0
"""The longest time without a line."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shown(clock: Clock, caplog: pytest.LogCaptureFixture) -> ProgressLog:
    caplog.set_level(logging.INFO, "agent.child.progress_log")
    return ProgressLog(clock)


def training(done: int, **changes: Any) -> Progress:
    return Progress(phase=Phase.TRAINING, done=done, total=100, **changes)


def waited(shown: ProgressLog, clock: Clock, seconds: int) -> None:
    """Let time pass, and the log be looked at as often as a task does."""
    for _ in range(seconds):
        clock.now += progress_log._LOOK_EVERY_S
        shown.tell_silence()


@pytest.mark.parametrize("phase", Phase)
def test_no_phase_is_silent_for_longer_than_a_quarter_of_a_minute(
    shown: ProgressLog, clock: Clock, caplog: pytest.LogCaptureFixture, phase: Phase
) -> None:
    shown.show(Progress(phase=phase))
    for minute in range(1, 4):
        waited(shown, clock, 60)
        said = [line.getMessage() for line in caplog.records]
        assert len(said) - 1 >= minute * 60 / QUIET_S - 1
    assert said[0] == f"  {phase}"
    assert said[1:4] == [f"  still {phase}, for {seconds} s" for seconds in (14, 28, 42)]
    assert said[-1].startswith(f"  still {phase}, for ")
    assert said[-1].endswith(" min")


def test_a_task_that_says_nothing_yet_is_not_silent_either(
    shown: ProgressLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    waited(shown, clock, 20)
    assert caplog.messages == ["  still starting, for 14 s"]
    shown.show(training(5))
    shown.begin()  # another task
    waited(shown, clock, 14)
    assert caplog.messages[1:] == ["  training 5/100", "  still starting, for 14 s"]


def test_a_step_that_takes_long_is_named_with_the_time_since_the_last(
    shown: ProgressLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    shown.show(training(0))
    waited(shown, clock, 10)
    shown.show(training(1))  # is logged, five seconds after the line before it
    waited(shown, clock, 13)
    assert caplog.messages == ["  training 0/100", "  training 1/100"]
    waited(shown, clock, 1)
    assert caplog.messages[-1] == "  still training 1/100, for 14 s"


def test_lines_are_five_seconds_apart_but_for_new_phases(
    shown: ProgressLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for done in range(61):
        shown.show(training(done))
        clock.now += 0.25
    shown.show(Progress(phase=Phase.UPLOADING, done=12_500_000, total=25_000_000))
    assert [line.split(",")[0] for line in caplog.messages] == [
        *(f"  training {done}/100" for done in (0, 20, 40, 60)),
        "  uploading 12.5 MB of 25.0 MB",
    ]


def test_a_line_has_all_that_was_measured(shown: ProgressLog, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    shown.metrics = by_name(dpo.METRICS)
    machine = {"peak_memory_bytes": 11_200_000_000, "gpu_memory_bytes": 24_000_000_000, "gpu_utilization": 0.875}
    measured = {"loss": 2.3456, "tokens_per_s": 1234.4, "metrics": {"reward_margin": 0.5}, **machine}
    for done in range(3):
        timed = shown.show(training(done, **measured))
        clock.now += 7.5
    assert timed.seconds_left == 98 * 7.5
    assert timed.model_copy(update={"seconds_left": None}) == training(2, **measured)
    assert caplog.messages[-1] == (
        "  training 2/100, loss 2.346, reward margin 0.5000, 1234 tokens/s, 12 min left, "
        "memory 11.2 GB of 24.0 GB, GPU 88%"
    )


def test_what_is_not_known_is_left_out(shown: ProgressLog, caplog: pytest.LogCaptureFixture) -> None:
    shown.show(training(1, peak_memory_bytes=2_000_000_000))
    assert caplog.messages == ["  training 1/100, memory 2.0 GB"]


def test_the_watch_logs_by_itself_until_it_is_cancelled(
    shown: ProgressLog, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress_log, "_LOOK_EVERY_S", 0.01)

    async def work() -> None:
        watching = asyncio.create_task(shown.watch())
        clock.now += 20
        async with asyncio.timeout(10):
            while not caplog.messages:  # noqa: ASYNC110 - the log is no event
                await asyncio.sleep(0.01)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)

    asyncio.run(work())
    assert caplog.messages == ["  still starting, for 20 s"]


def test_no_time_is_left_before_a_pace_is_known(clock: Clock) -> None:
    pace = Pace(clock)
    left: list[float | None] = []
    for done in range(4):  # the first step brings the start of the trainer with it
        left.append(pace.seconds_left(training(done)))
        clock.now += 30 if done == 0 else 2
    assert left == [None, None, 98 * 2, 97 * 2]


def test_the_pace_is_that_of_recent_steps(clock: Clock) -> None:
    pace = Pace(clock)
    for done in range(40):
        pace.seconds_left(training(done))
        clock.now += 10
    for done in range(40, 60):
        left = pace.seconds_left(training(done))
        clock.now += 5
    assert left == pytest.approx(41 * 5, rel=0.02)


def test_slow_steps_have_a_pace_of_several(clock: Clock) -> None:
    pace = Pace(clock)
    for done in range(12):
        left = pace.seconds_left(training(done))
        clock.now += 100 if done % 2 else 300
    assert left == pytest.approx(89 * 200, rel=0.1)


def test_a_resumed_training_has_the_pace_of_its_own_steps(clock: Clock) -> None:
    pace = Pace(clock)
    pace.seconds_left(training(80))
    clock.now += 1
    assert pace.seconds_left(training(81)) is None
    clock.now += 4
    assert pace.seconds_left(training(82)) == 18 * 4


def test_each_phase_has_its_own_pace_and_one_that_begins_anew_too(clock: Clock) -> None:
    pace = Pace(clock)
    for phase in (Phase.TOKENIZING, Phase.EVALUATING):
        left = []
        for done in (0, 10, 20):
            left.append(pace.seconds_left(Progress(phase=phase, done=done, total=30)))
            clock.now += 3
        assert left == [None, None, 3.0]
    assert pace.seconds_left(Progress(phase=Phase.EVALUATING, done=10, total=30)) is None, "memory ran out"


def test_the_time_left_shrinks_while_a_step_lasts_and_is_never_negative(clock: Clock) -> None:
    pace = Pace(clock)
    for done in (0, 1, 2):
        pace.seconds_left(Progress(phase=Phase.TRAINING, done=done, total=3))
        clock.now += 10
    seen = []
    for _ in range(3):
        seen.append(pace.seconds_left(Progress(phase=Phase.TRAINING, done=2, total=3)))
        clock.now += 10
    assert seen == [0.0, 0.0, 0.0]
    assert pace.seconds_left(Progress(phase=Phase.TRAINING, done=3, total=3)) is None


def test_without_a_total_nothing_is_left(clock: Clock) -> None:
    pace = Pace(clock)
    for done in range(5):
        assert pace.seconds_left(Progress(phase=Phase.FETCHING_MODEL, done=done)) is None
        clock.now += 1


def test_a_pace_that_would_take_for_ever_is_bounded(clock: Clock) -> None:
    pace = Pace(clock)
    for done in range(3):
        left = pace.seconds_left(Progress(phase=Phase.DOWNLOADING, done=done, total=(1 << 63) - 1))
        clock.now += 1e6
    assert left is not None
    Progress(phase=Phase.DOWNLOADING, seconds_left=left)  # within the bounds of the wire
