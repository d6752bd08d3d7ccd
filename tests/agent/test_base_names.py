"""Base models of campaigns: hub ids alone, and no word on what the owner's disk holds."""

import os
from pathlib import Path

import pytest

from agent.base_names import check_campaign_base, is_hub_id, is_revision
from agent.errors import TaskFailed
from shared.campaign.spec import BaseSection

PATHS = [
    "/etc",
    "/nonexistent",
    "~",
    "~root/x",
    "../models",
    "./model",
    "..",
    ".",
    "a/../b",
    "models/org/tiny",
    "org//tiny",
    "org/",
    "/org",
    "org\\tiny",
    "C:\\models",
    "C:tiny",
    "file:///etc",
    "https://hub/org/tiny",
    "org/tiny@main",
    "org/tiny ",
    " ",
    "org/-tiny",
    "org/.tiny",
    "org--tiny",
    "org/tiny.git",
    "org/ti..ny",
    "örg/tiny",
    "$HOME",
    "%2e%2e",
    "a" * 97,
]


@pytest.mark.parametrize("name", PATHS)
def test_what_is_no_hub_id_is_refused_with_one_text(name: str) -> None:
    assert not is_hub_id(name)
    with pytest.raises(TaskFailed) as caught:
        check_campaign_base(BaseSection.model_construct(model=name), is_mapped=False)
    assert caught.value.failure.kind == "base-model"
    assert caught.value.failure.message == (
        "base.model is not a hub id (name, or organisation/name), and this agent takes folders from its own settings "
        "alone: name a hub id, or ask the owner to map the name to a folder under [models] in agent.toml"
    )


@pytest.mark.parametrize("name", ["gpt2", "HuggingFaceTB/SmolLM2-135M-Instruct", "org/tiny_1.5B", "a/b", "_x/y_"])
def test_hub_ids_are_taken(name: str) -> None:
    assert is_hub_id(name)
    check_campaign_base(BaseSection(model=name, revision="main"), is_mapped=False)


@pytest.mark.parametrize("revision", ["..", "../x", "a/../b", "/etc", "a//b", "a/", ".git", "a\\b", "C:x", "a b", "~"])
def test_a_revision_that_could_leave_its_folder_is_refused(revision: str) -> None:
    assert not is_revision(revision)
    with pytest.raises(TaskFailed) as caught:
        check_campaign_base(BaseSection(model="org/tiny", revision=revision), is_mapped=False)
    assert caught.value.failure.message == (
        "base.revision is not the name of a branch, tag or commit: correct it in the campaign"
    )


@pytest.mark.parametrize("revision", ["main", "v1.0", "refs/pr/3", "feature/x_1", "a" * 40])
def test_branches_tags_and_commits_are_taken(revision: str) -> None:
    assert is_revision(revision)


def test_a_name_that_the_owner_maps_may_have_any_form() -> None:
    check_campaign_base(BaseSection(model="/models/tiny"), is_mapped=True)


@pytest.mark.parametrize("name", ["/" + "a" * 399, "a/" * 199, "a" * 400, "a-" * 200])
def test_the_longest_names_are_read_at_once(name: str) -> None:
    before = os.times().user
    assert not is_hub_id(name)
    assert os.times().user - before < 0.5


def test_nothing_is_looked_up_for_a_name_that_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is a folder of the name: the answer is that for one that is not there."""
    (tmp_path / "models" / "org" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    texts = set()
    for name in ("models/org/tiny", "models/org/gone", str(tmp_path), f"{tmp_path}/gone"):
        with pytest.raises(TaskFailed) as caught:
            check_campaign_base(BaseSection(model=name), is_mapped=False)
        texts.add(caught.value.failure.message)
    assert len(texts) == 1
