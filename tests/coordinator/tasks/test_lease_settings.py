"""A lease lasts long enough for an agent to keep it."""

import pytest
from pydantic import ValidationError

from agent.network.heartbeat import _LEAST_RENEWAL_S
from coordinator.settings import LeaseSettings


@pytest.mark.parametrize("ttl_s", [0, 0.5, 1, 2.99, float("nan")])
def test_a_lease_that_ends_before_its_agent_renews_it_is_refused(ttl_s: float) -> None:
    with pytest.raises(ValidationError, match=r"greater than or equal to 3|finite number"):
        LeaseSettings(ttl_s=ttl_s)


def test_the_shortest_lease_may_be_renewed_thrice() -> None:
    assert LeaseSettings(ttl_s=3).ttl_s >= 3 * _LEAST_RENEWAL_S
