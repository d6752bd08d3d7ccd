"""A pytest plugin that holds every test to one tier: deep, soak or real by its marker, fast without one."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from _pytest.mark.structures import ParameterSet

TIERS = frozenset({"deep", "soak", "real"})
COLLECTED = pytest.StashKey[dict[str, str]]()
"""Tier of each collected test, by node id; deselected tests are included."""


def deep(*values: object, **named: Any) -> "ParameterSet":
    """Parameters that make a test deep."""
    return pytest.param(*values, marks=pytest.mark.deep, **named)


def soak(*values: object, **named: Any) -> "ParameterSet":
    """Parameters that make a test one of the soak tier."""
    return pytest.param(*values, marks=pytest.mark.soak, **named)


POSTGRES = deep("postgres")
"""The PostgreSQL parameter of tests on either database. It is deep: fast tests use SQLite only."""

EACH_STORE = pytest.mark.parametrize("updates", ["files", deep("database"), deep("tree")], indirect=True)
"""Has a test that uses the fixture ``updates`` run with each store of updates; fast tests use files only."""


def tier_of(item: pytest.Item) -> str:
    """The tier of a test: soak if it is deep too, as by two parameters. Raises UsageError if it has two others."""
    found = sorted(TIERS & {mark.name for mark in item.iter_markers()})
    if found == ["deep", "soak"]:
        return "soak"
    if len(found) > 1:
        raise pytest.UsageError(f"{item.nodeid} is of several tiers: {', '.join(found)}")
    return found[0] if found else "fast"


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    # after the hooks of folders, which add markers, and before pytest deselects tests
    config.stash[COLLECTED] = {item.nodeid: tier_of(item) for item in items}
