"""What is read from an adapter's folder, with and without ``fedloom.json``."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedloom.adapters.atomic_folder import atomic_folder
from fedloom.adapters.facts import AdapterFacts
from fedloom.adapters.folder import CONFIG_FILE, WEIGHTS_FILE, peft_config
from fedloom.adapters.lineage import LINEAGE_FILE, Lineage
from fedloom.adapters.local import read_adapter_folder
from fedloom.adapters.merged_card import merged_card
from fedloom.errors import BadAdapterFolder, FolderNotEmpty
from shared.adapters.files import write_adapter
from shared.digest import sha256_file
from shared.wire.base import BlobRef
from tests.unit.fedloom.test_adapter_folder import PROTECTION, adapter, campaign, front_matter

NAMES = ["base_model.model.q_proj.lora_A.weight", "base_model.model.q_proj.lora_B.weight"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An adapter's folder as ``adapter pull`` writes it."""
    write_adapter(tmp_path / WEIGHTS_FILE, {name: np.ones((8, 8), np.float32) for name in NAMES})
    detail = campaign(lora={"rank": 4, "alpha": 2.5}, data={"name": "notes", "template": "vicuna"})
    blob = BlobRef(sha256=sha256_file(tmp_path / WEIGHTS_FILE), n_bytes=8)
    lineage = Lineage.of(AdapterFacts.of(detail, adapter().model_copy(update={"blob": blob}), PROTECTION))
    (tmp_path / LINEAGE_FILE).write_text(lineage.model_dump_json())
    (tmp_path / CONFIG_FILE).write_text(json.dumps(peft_config(detail.spec, NAMES)))
    return tmp_path


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(folder: Path) -> str:
    with pytest.raises(BadAdapterFolder) as caught:
        read_adapter_folder(folder)
    return caught.value.reason


def test_lineage_gives_every_fact(folder: Path) -> None:
    local = read_adapter_folder(folder)
    assert local.name == "clinic #3"
    assert (local.lora.rank, local.lora.alpha, local.template) == (4, 2.5, "vicuna")
    assert (local.base.model, local.base.revision) == ("org/model", "main")
    assert json.loads((folder / LINEAGE_FILE).read_text())["format"] == 1


def test_an_adapter_of_another_program_is_read_from_its_configuration(folder: Path) -> None:
    (folder / LINEAGE_FILE).unlink()
    local = read_adapter_folder(folder)
    assert (local.name, local.template, local.fingerprint) == (folder.name, None, None)
    assert (local.lora.rank, local.lora.alpha, local.lora.target_modules) == (4, 2.5, ["q_proj"])
    assert (local.base.model, local.base.revision) == ("org/model", "main")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"peft_type": "IA3"}, "peft_type IA3 is not LORA"),
        ({"use_dora": True, "modules_to_save": ["embed"]}, "modules_to_save, use_dora: only plain LoRA"),
        ({"target_modules": ["lm_head"]}, "lm_head cannot be adapted"),
        ({"target_modules": None}, "target_modules"),
        ({"base_model_name_or_path": None}, "model: Input should be a valid string"),
        ({"r": "many"}, "rank"),
        ({"lora_bias": True}, "lora_bias: only plain LoRA"),
        ({"use_qalora": True}, "use_qalora: only plain LoRA"),
        ({"arrow_config": {"top_k": 2}}, "arrow_config: only plain LoRA"),
        ({"some_later_kind": {"scale": 2}}, "some_later_kind: only plain LoRA"),
        ({"bias": "all"}, "bias: only plain LoRA"),
        ({"rank_pattern": {"q_proj": 2}}, "rank_pattern: only plain LoRA"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights is pissa: that start changes the base's weights"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights is pissa_niter_4"),
        ({"init_lora_weights": "olora"}, "init_lora_weights is olora"),
        ({"init_lora_weights": "loftq", "loftq_config": {"loftq_bits": 4}}, "init_lora_weights is loftq"),
        ({"init_lora_weights": "corda"}, "path_initial_model_for_weight_conversion"),
    ],
)
def test_an_adapter_that_is_not_plain_lora_is_refused(folder: Path, changes: dict[str, Any], says: str) -> None:
    (folder / LINEAGE_FILE).unlink()
    edit(folder / CONFIG_FILE, **changes)
    assert says in refusal(folder)


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "orthogonal", "eva"])
def test_every_setting_of_a_trained_adapter_of_plain_lora_is_accepted(folder: Path, start: object) -> None:
    (folder / LINEAGE_FILE).unlink()
    further = {"auto_mapping": None, "fan_in_fan_out": True, "megatron_core": "megatron.core", "peft_version": "0.21.0"}
    empty = {"alpha_pattern": {}, "lora_bias": False, "kasa_config": None, "some_later_kind": None}
    edit(folder / CONFIG_FILE, init_lora_weights=start, **further, **empty)
    assert read_adapter_folder(folder).lora.rank == 4


def test_folders_that_cannot_be_used_say_why(folder: Path) -> None:
    edit(folder / LINEAGE_FILE, later="ignored")
    read_adapter_folder(folder)
    edit(folder / LINEAGE_FILE, sha256="0" * 64)
    assert "does not match the digest in fedloom.json" in refusal(folder)
    edit(folder / LINEAGE_FILE, sha256=sha256_file(folder / WEIGHTS_FILE), campaign_id=None)
    assert "campaign_id" in refusal(folder)
    edit(folder / LINEAGE_FILE, format=2)
    assert "has format 2, this Fedloom reads 1" in refusal(folder)
    for text, says in (("[]", "not a JSON object"), ("{", "is not JSON")):
        (folder / LINEAGE_FILE).write_text(text)
        assert says in refusal(folder)
    (folder / LINEAGE_FILE).unlink()
    (folder / CONFIG_FILE).unlink()
    assert refusal(folder) == "adapter_config.json is missing"
    (folder / WEIGHTS_FILE).unlink()
    assert "fedloom adapter pull" in refusal(folder)


def test_the_card_of_a_merged_model_names_base_campaign_and_adapter(folder: Path) -> None:
    local = read_adapter_folder(folder)
    card = merged_card(local, dtype="bfloat16", merge_difference=3e-6, file_difference=0.04)
    assert front_matter(card)["base_model"] == "org/model"
    assert front_matter(card)["library_name"] == "transformers"
    for fact in (local.sha256, "`clinic` (`1`)", "| Adapter | 3 of 3 |", "revision `main`", "3e-06", "0.04", "1.2500"):
        assert fact in card
    assert "## What protected the owners' rows" in card
    assert "4 clients trained it in 3 rounds" in card
    (folder / LINEAGE_FILE).unlink()
    assert "Campaign" not in merged_card(
        read_adapter_folder(folder), dtype="float32", merge_difference=0, file_difference=0
    )


def test_the_card_of_a_merged_model_has_the_adapters_benchmarks_as_numbers_before_the_merge(folder: Path) -> None:
    content = json.loads((folder / LINEAGE_FILE).read_text())
    metric = {"name": "fpb.acc", "title": "FPB, accuracy", "origin": "benchmark", "minimum": 0, "maximum": 1}
    content["metrics"].append({"metric": metric, "value": 0.5})
    content["benchmarks"] = [{"name": "fpb", "agent_name": "ada", "n": 9, "n_asked": 9, "n_published": 9}]
    (folder / LINEAGE_FILE).write_text(json.dumps(content))
    card = merged_card(read_adapter_folder(folder), dtype="float32", merge_difference=0, file_difference=0)
    lineage, _, section = card.partition("## Benchmarks")
    assert "fpb" not in lineage
    assert "| `fpb.acc` | 50.0% | 9 of 9 | `ada` |  |" in section
    assert "Numbers of the adapter on its base model, before the merge" in section
    assert "model-index" not in card


def test_the_card_of_a_merged_model_says_how_the_base_was_quantised_in_training(folder: Path) -> None:
    content = json.loads((folder / LINEAGE_FILE).read_text())
    content["spec"]["base"] |= {"quantization": "nf4", "cpu_dtype": "bfloat16"}
    (folder / LINEAGE_FILE).write_text(json.dumps(content))
    local = read_adapter_folder(folder)
    assert local.base.quantization == "nf4"
    card = merged_card(local, dtype="float32", merge_difference=0, file_difference=0)
    assert "| Base in training | quantised to nf4;" in card
    assert (
        "| Precision in training | At clients that trained and evaluated on a CPU the base was in bfloat16. |" in card
    )


def test_a_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    with pytest.raises(FileNotFoundError), atomic_folder(out, force=False) as draft:
        shutil.copy(__file__, draft / "half" / "of" / "it")
    assert list(out.parent.iterdir()) == []
    with atomic_folder(out, force=False) as draft:
        (draft / "one.safetensors").write_text("")
        assert not out.exists()
    with pytest.raises(FolderNotEmpty), atomic_folder(out, force=False):
        pytest.fail("it is refused before any work")
    with atomic_folder(out, force=True) as draft:
        (draft / "two").write_text("")
    assert [path.name for path in out.iterdir()] == ["two"]
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("names", [["rows.jsonl"], ["identity.json", "adapters/one.safetensors"], ["a/b.safetensors"]])
def test_a_folder_of_anything_else_is_not_replaced_even_by_force(tmp_path: Path, names: list[str]) -> None:
    out, link = tmp_path / "out", tmp_path / "link"
    for name in names:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("mine")
    link.symlink_to(out)
    for taken in (out, link, out / names[0]):
        with pytest.raises(FolderNotEmpty, match="so it is not replaced"), atomic_folder(taken, force=True):
            pytest.fail("it is refused before any work")
    with pytest.raises(FolderNotEmpty), atomic_folder(tmp_path / "new", force=True):
        shutil.copytree(out, tmp_path / "new")
    for folder in (out, tmp_path / "new"):
        assert all((folder / name).read_text() == "mine" for name in names)
