"""The coordinator's clock: setting the machine's clock does not move it, and it never goes back."""

from datetime import UTC, datetime, timedelta

from coordinator.clock import SystemClock

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Machine:
    """A machine's wall clock and monotonic clock."""

    def __init__(self) -> None:
        self.wall = START
        self.seconds = 1000.0

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall, lambda: self.seconds)


def test_time_follows_the_monotonic_clock_when_the_wall_clock_is_set() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.seconds += 30
    machine.wall += timedelta(hours=5)
    assert clock.now() == START + timedelta(seconds=30)
    machine.wall -= timedelta(days=300)
    machine.seconds += 30
    assert clock.now() == START + timedelta(seconds=60)


def test_it_continues_from_a_later_time_and_never_goes_back() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.not_before(START - timedelta(hours=1))
    assert clock.now() == START
    clock.not_before(START + timedelta(hours=1))
    machine.seconds += 5
    assert clock.now() == START + timedelta(hours=1, seconds=5)


def test_it_agrees_with_the_wall_clock_if_nobody_sets_that() -> None:
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(seconds=1)
