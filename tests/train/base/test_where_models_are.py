"""Where a base model is found: in the folder that its owner names, or in the hub's cache, and nowhere else."""

import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants

from agent.train.base.on_disk.folder import weight_files
from tests.support.tiny import make_model
from tests.train.base.model_folders import ONE_TEXT, find, index, refusal

pytestmark = pytest.mark.train


def in_cache(folder: Path, home: Path, commit: str = "a" * 40) -> Path:
    """A snapshot of the model as the hub's client leaves it: links to blobs of the same repository."""
    repository = home / "models--org--tiny"
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, repository / "blobs" / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    return snapshot


def test_links_of_the_hubs_cache_to_their_own_repository_are_followed(model_folder: Path, tmp_path: Path) -> None:
    snapshot = in_cache(model_folder, tmp_path / "hub")
    assert find(snapshot, tmp_path).fingerprint == find(model_folder, tmp_path).fingerprint
    (snapshot / "vocab.txt").symlink_to(tmp_path / "elsewhere")
    assert refusal(snapshot, tmp_path) == ONE_TEXT


def test_a_link_to_the_whole_folder_may_be_named_by_the_owner(model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(model_folder)
    assert find(tmp_path / "model", tmp_path).fingerprint == find(model_folder, tmp_path).fingerprint


def test_a_revision_leads_to_no_other_folder_of_the_cache(
    model_folder: Path, private: Path, tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    in_cache(model_folder, tmp_path / "hub")
    for revision in ("../../../private", str(private), "../main", "a/../main"):
        message = refusal(None, tmp_path, revision=revision)
        assert message == "base.revision is not the name of a branch, tag or commit: correct it in the campaign"
    assert not [path for path in opened if path.startswith(str(private))]


def test_a_hub_id_that_is_also_a_folder_here_is_not_that_folder(
    tmp_path: Path, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make_model(tmp_path / "org" / "private", seed=3)
    monkeypatch.chdir(tmp_path)
    opened.clear()
    assert "could not be downloaded from the hub" in refusal(None, tmp_path, model="org/private")
    assert not [path for path in opened if path.startswith(str(tmp_path / "org"))]


def test_the_weight_files_of_a_good_index_are_those_that_it_names(copy: Path) -> None:
    (copy / "b.safetensors").write_bytes(b"")
    index(copy, "b.safetensors", "b.safetensors")
    assert [path.name for path in weight_files(copy)] == ["b.safetensors"]
