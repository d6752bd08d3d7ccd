"""How many examples a property gets in each tier, and how they are run."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, seed, settings

from tests.support.suite.seeds import seed_of_today


def examples(few: int) -> pytest.MarkDecorator:
    """Runs a test with *few* examples, as a deep test with ten times as many, as a soak test with 300 times as many."""
    more = pytest.param(10 * few, marks=pytest.mark.deep)
    many = pytest.param(300 * few, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])
    return pytest.mark.parametrize("examples", [few, more, many])


def check(property_of: Callable[..., None], examples: int, deadline_s: float = 10.0, **arguments: Any) -> None:
    """Check a property with examples of the day's seed. An example that takes longer than *deadline_s* fails.

    arguments: a strategy for each argument of the property.
    """
    limits = settings(
        max_examples=examples,
        deadline=deadline_s * 1000,
        database=None,
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    seed(seed_of_today())(limits(given(**arguments)(property_of)))()
