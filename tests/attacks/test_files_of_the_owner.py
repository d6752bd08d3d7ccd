"""A campaign whose base model leads to files of the owner's disk.

A path as the base's name told by its refusal whether there was such a folder, and a private model was fingerprinted
and trained; an index file that named `../../private/pin.txt` put that file's digest into the fingerprint, and a PIN
of four digits was found by trying.

Now a campaign names hub ids alone, an index plain files of its folder alone, and each refusal has one text, whether
there is such a file or not.
"""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attacks.attacked import DATA, Attacked, attacked
from tests.attacks.hostile import refusal

pytestmark = [pytest.mark.train, pytest.mark.deep]

POLICY = 'accept = "any"\nmax_campaigns = 20\nbase_models = ["*"]\n'
NO_HUB_ID = (
    "base-model: base.model is not a hub id (name, or organisation/name), and this agent takes folders from its own "
    "settings alone: name a hub id, or ask the owner to map the name to a folder under [models] in agent.toml"
)
LEADS_OUT = (
    "base-model: the base model's folder cannot be used: a link in it, or a name in one of its files, is not that of a "
    "plain file in this folder. Replace links by copies, and names of folders by plain names"
)


TARGETS = ["../private/pin.txt", "../private/gone.txt", "sub/model.safetensors"]


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Iterator[Attacked]:
    """An agent that takes any base model, with some of the attacker's on its disk."""
    folder = tmp_path_factory.mktemp("files")
    private = Path(shutil.copytree(model, folder / "private"))
    (private / "pin.txt").write_text("4711")
    bases = {
        name: Path(shutil.copytree(model, folder / name)) for name in ("index-0", "index-1", "index-2", "link", "plain")
    }
    for number, target in enumerate(TARGETS):
        weights = {"metadata": {}, "weight_map": {"model.embed_tokens.weight": target}}
        (bases[f"index-{number}"] / "model.safetensors.index.json").write_text(json.dumps(weights))
        (bases[f"index-{number}"] / "model.safetensors").unlink()
    (bases["link"] / "model.safetensors").unlink()
    (bases["link"] / "model.safetensors").symlink_to(private / "model.safetensors")
    mapped = "".join(f'"attacker/{name}" = "{path}"\n' for name, path in bases.items())
    with attacked(folder, model, POLICY, f"{DATA}[models]\n{mapped}") as running:
        yield running


def test_no_path_is_a_base_model_whether_it_is_there_or_not(trusting: Attacked) -> None:
    private = trusting.home.parent / "private"
    names = [
        "/etc",
        "/nonexistent",
        str(private),
        f"{private}/",
        "../private",
        "~/model",
        "file:///etc",
        "..",
        "a/../b",
    ]
    said = {
        refusal(trusting.campaign(f"path-{number}", base={"model": name}).prepare())
        for number, name in enumerate(names)
    }
    assert said == {NO_HUB_ID}
    assert trusting.printed().count(NO_HUB_ID.removeprefix("base-model: ")) == len(names)


def test_an_index_or_a_link_that_leads_out_has_one_text_and_no_digest(trusting: Attacked) -> None:
    names = ["index-0", "index-1", "index-2", "link"]
    said = [refusal(trusting.campaign(name, base={"model": f"attacker/{name}"}).prepare()) for name in names]
    assert said == [LEADS_OUT] * len(names)
    received = b"".join(body for _, body in trusting.coordinator.received)
    assert b"pin.txt" not in received
    assert str(trusting.home.parent).encode() not in received


def test_the_same_base_without_such_names_is_used(trusting: Attacked) -> None:
    result = trusting.campaign("plain", base={"model": "attacker/plain"}).prepare().result
    assert result is not None
