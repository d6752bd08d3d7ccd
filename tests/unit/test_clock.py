"""The coordinator's clock: nobody who sets the machine's moves it, and it never goes back behind what was seen."""

from datetime import UTC, datetime, timedelta

from coordinator.clock import SystemClock

START = datetime(2026, 5, 1, 12, tzinfo=UTC)


class Machine:
    """A machine's two clocks."""

    def __init__(self) -> None:
        self.wall = START
        self.seconds = 1000.0

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall, lambda: self.seconds)


def test_time_goes_as_the_machine_counts_it_whatever_the_clock_is_set_to() -> None:
    machine = Machine()
    clock = machine.clock()
    machine.seconds += 30
    machine.wall += timedelta(hours=5)
    assert clock.now() == START + timedelta(seconds=30)
    machine.wall -= timedelta(days=300)
    machine.seconds += 30
    assert clock.now() == START + timedelta(seconds=60)


def test_it_goes_on_from_a_later_time_and_never_back() -> None:
    machine = Machine()
    clock = machine.clock()
    clock.not_before(START - timedelta(hours=1))
    assert clock.now() == START
    clock.not_before(START + timedelta(hours=1))
    machine.seconds += 5
    assert clock.now() == START + timedelta(hours=1, seconds=5)


def test_it_is_the_machines_time_where_nobody_sets_it() -> None:
    assert abs(SystemClock().now() - datetime.now(UTC)) < timedelta(seconds=1)
