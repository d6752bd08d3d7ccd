"""Whose address counts: the peer's, or behind a proxy that the operator names, the one that the proxy saw."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from coordinator.settings import LimitSettings
from tests.support.server import RunningCoordinator, quick_settings, running_coordinator

Start = Callable[[str], RunningCoordinator]


@pytest.fixture
def start(data_dir: Path) -> Iterator[Start]:
    """Starts a coordinator that trusts some proxies and refuses the third request without a key."""
    with ExitStack() as stack:

        def begin(trusted_proxies: str) -> RunningCoordinator:
            limits = LimitSettings(refused_per_minute=2, trusted_proxies=trusted_proxies)
            return stack.enter_context(running_coordinator(quick_settings(data_dir, None, limits=limits)))

        yield begin


def refused(running: RunningCoordinator, *forwarded: str) -> list[int]:
    """The statuses of requests without a key, each forwarded for somebody."""
    with httpx.Client(base_url=running.url, verify=False) as http:
        return [http.get("/v1/campaigns", headers={"X-Forwarded-For": each}).status_code for each in forwarded]


def test_without_a_trusted_proxy_nobody_chooses_their_address(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", "*")
    assert refused(start(""), "192.0.2.1", "192.0.2.2", "192.0.2.3") == [401, 401, 429]


@pytest.mark.parametrize("trusted", ["127.0.0.1", "10.0.0.1, 127.0.0.0/8"])
def test_callers_behind_a_trusted_proxy_have_limits_of_their_own(start: Start, trusted: str) -> None:
    running = start(trusted)
    assert refused(running, *["192.0.2.1"] * 3, "192.0.2.2", "2001:db8::1") == [401, 401, 429, 401, 401]
    # what a caller claims stands to the left of what the proxy adds
    assert refused(running, "198.51.100.1, 192.0.2.1", "198.51.100.2, 192.0.2.1") == [429, 429]
    assert refused(running, "2001:db8::2", "2001:db8::3") == [401, 429]


def test_a_proxy_that_is_not_named_is_not_believed(start: Start) -> None:
    assert refused(start("10.0.0.1"), "192.0.2.1", "192.0.2.2", "192.0.2.3") == [401, 401, 429]


@pytest.mark.parametrize("wrong", ["proxy.example", "*", "10.0.0.1/8", "10.0.0", "10.0.0.1;10.0.0.2"])
def test_what_is_no_address_is_refused_at_the_start(wrong: str) -> None:
    with pytest.raises(ValidationError) as refusal:
        LimitSettings(trusted_proxies=wrong)
    assert wrong in str(refusal.value.errors()[0]["msg"])
