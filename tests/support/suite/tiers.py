"""A plugin of pytest that holds every test to one tier: fast where it has no marker, or deep, soak or real."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

TIERS = frozenset({"deep", "soak", "real"})
COLLECTED = pytest.StashKey[dict[str, str]]()
"""The tier of each test that was collected, by the test's name; those that are not run are among them."""


def deep(*values: object, **named: Any) -> "ParameterSet":
    """Parameters that make a test a deep one."""
    return pytest.param(*values, marks=pytest.mark.deep, **named)


POSTGRES = deep("postgres")
"""The parameter of tests on either database: fast tests know SQLite alone."""


def tier_of(item: pytest.Item) -> str:
    """The tier of a test. Raises UsageError where it has more than one."""
    found = sorted(TIERS & {mark.name for mark in item.iter_markers()})
    if len(found) > 1:
        raise pytest.UsageError(f"{item.nodeid} is of several tiers: {', '.join(found)}")
    return found[0] if found else "fast"


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    # after the hooks of folders, which add markers, and before those tests are taken out that are not asked for
    config.stash[COLLECTED] = {item.nodeid: tier_of(item) for item in items}
