"""The store of updates is found by its name in the settings."""

from typing import Any

import pytest
from pydantic import ValidationError

from coordinator.settings import StorageSettings
from tests.support import tree_store


def refusal_of(name: Any) -> dict[str, Any]:
    with pytest.raises(ValidationError) as refused:
        StorageSettings(updates=name)
    [error] = refused.value.errors(include_url=False, include_context=False)
    return dict(error)


def test_an_unknown_store_is_refused_with_the_known_ones() -> None:
    refused = {"type": "literal_error", "loc": ("updates",), "input": "tree"}
    assert refusal_of("tree") == {**refused, "msg": "Input should be 'files' or 'database'"}
    with tree_store.known():
        assert StorageSettings(updates="tree").updates == "tree"
        assert refusal_of("trees")["msg"] == "Input should be 'files', 'database' or 'tree'"


@pytest.mark.parametrize("name", ["", None, 3])
def test_what_is_no_name_is_refused(name: Any) -> None:
    assert refusal_of(name)["loc"] == ("updates",)
