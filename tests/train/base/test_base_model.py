"""The base model: its sources, its requirements and its fingerprint."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import huggingface_hub
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from agent.data.digest_cache import DigestCache
from agent.errors import TaskFailed
from agent.orders.protocol import Failed
from agent.train.base.on_disk.fingerprint import fingerprint as digest
from shared.campaign.spec import BaseSection, LoraSection
from shared.wire.tasks.leases import FailureKind, Phase
from tests.support.hub import COMMIT, HubHandler, running_hub
from tests.support.server import free_port
from tests.train.conftest import Lab

pytestmark = pytest.mark.train


@pytest.fixture
def copy(model_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model_folder, tmp_path / "copy"))


def fingerprint(lab: Lab, folder: Path) -> Any:
    return lab.run(lab.work(lab.prepare_job(), model_path=folder)).fingerprint


def failure(lab: Lab, job: Any = None, **changes: Any) -> str:
    with pytest.raises(TaskFailed) as caught:
        lab.run(lab.work(job or lab.prepare_job(), **changes))
    assert caught.value.failure.kind == FailureKind.BASE_MODEL
    return caught.value.failure.message


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_prepare_counts_rows(lab: Lab) -> None:
    result = lab.run(lab.work(lab.prepare_job()))
    assert result.n_train + result.n_held_out == 80
    assert result.n_held_out > 5
    assert (result.dropped, result.notices) == (0, [])


def test_copies_of_a_model_have_one_fingerprint(lab: Lab, copy: Path) -> None:
    edit(copy / "config.json", transformers_version="4.1.0", dtype="bfloat16", _name_or_path="elsewhere")
    edit(copy / "tokenizer_config.json", name_or_path="elsewhere")
    assert fingerprint(lab, copy) == lab.fingerprint


def test_each_part_of_a_model_has_its_own_digest(lab: Lab, copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    tensors["model.norm.weight"][0] += 1
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint(lab, copy).differences(lab.fingerprint) == ["weights"]
    edit(copy / "config.json", rms_norm_eps=1e-3)
    assert fingerprint(lab, copy).differences(lab.fingerprint) == ["weights", "config"]
    template = copy / "chat_template.jinja"
    template.write_text(template.read_text() + " ")
    assert fingerprint(lab, copy).differences(lab.fingerprint) == ["weights", "config", "template"]


def test_another_base_model_is_a_fingerprint_failure_that_names_the_parts(lab: Lab) -> None:
    other = lab.fingerprint.model_copy(update={"weights": "f" * 64, "tokenizer": "e" * 64})
    with pytest.raises(TaskFailed) as caught:
        lab.run(lab.work(lab.init_job(fingerprint=other)))
    assert caught.value.failure.kind == FailureKind.FINGERPRINT
    assert "weights, tokenizer" in caught.value.failure.message


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = DigestCache(tmp_path / "digests.json").sha256(path)
    with monkeypatch.context() as patch:
        patch.setattr("agent.data.digest_cache.sha256_file", lambda _: pytest.fail("hashed again"))
        assert DigestCache(tmp_path / "digests.json").sha256(path) == first
    path.write_bytes(b"three")
    assert DigestCache(tmp_path / "digests.json").sha256(path) != first


def test_sharded_weights_are_read_by_their_index(lab: Lab, copy: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(copy, dtype=torch.float32)
    (copy / "model.safetensors").unlink()
    model.save_pretrained(copy, max_shard_size="100KB")
    shards = sorted(copy.glob("model-*.safetensors"))
    assert len(shards) > 1
    assert fingerprint(lab, copy).differences(lab.fingerprint) == ["weights"]
    shards[0].unlink()
    assert f"weight files are missing, {shards[0].name}" in failure(lab, model_path=copy)


def test_a_missing_folder_says_where_to_correct_it(lab: Lab, tmp_path: Path) -> None:
    assert "[models]" in failure(lab, model_path=tmp_path / "gone")
    assert "config.json" in failure(lab, model_path=tmp_path)


def test_a_folder_with_bin_weights_only_is_refused(lab: Lab, copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    message = failure(lab, model_path=copy)
    assert ".bin" in message
    assert "safetensors" in message


def test_weights_that_lack_tensors_are_refused_not_drawn_at_random(lab: Lab, copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    assert "model.layers.1.mlp.up_proj.weight" in failure(lab, model_path=copy)


def test_spoilt_weights_are_a_base_model_failure(lab: Lab, copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    assert "cannot be loaded" in failure(lab, model_path=copy)


def test_remote_code_stays_unrun(lab: Lab, copy: Path) -> None:
    marker = copy / "ran"
    (copy / "modeling.py").write_text(f"open({str(marker)!r}, 'w')\n")
    edit(copy / "config.json", model_type="own", auto_map={"AutoModelForCausalLM": "modeling.Own"})
    assert "policy.remote_code" in failure(lab, model_path=copy)
    assert not marker.exists()


def test_unknown_target_modules_are_named_with_the_existing_ones(lab: Lab) -> None:
    lora = LoraSection(target_modules=["q_proj", "query", "mlp"])
    message = failure(lab, lab.init_job(lora=lora))
    assert "no linear module query, mlp" in message
    assert "down_proj, gate_proj, k_proj" in message
    assert "lm_head" not in message


def test_float16_without_a_gpu_is_refused(lab: Lab) -> None:
    compute = lab.work(lab.init_job()).compute.model_copy(update={"dtype": "float16"})
    assert "float16" in failure(lab, lab.init_job(), compute=compute)


class Hub(HubHandler):
    """The endpoints of the hub that a download needs."""

    folder: ClassVar[Path]
    requested: ClassVar[list[str]]
    weights_bytes: ClassVar[str | None] = None
    """What the hub says of the size of the weights; None for the truth."""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        self.requested.append(f"{self.command} {path}")
        files = sorted(file for file in self.folder.iterdir() if file.is_file())
        if path == "/api/models/tiny/gated/revision/main":
            self.refuse(403, "GatedRepo")
        elif path == "/api/models/tiny/llama/revision/main":
            siblings = [{"rfilename": file.name} for file in files]
            self.send_json({"id": "tiny/llama", "sha": COMMIT, "siblings": siblings})
        elif path == f"/api/models/tiny/llama/tree/{COMMIT}":
            self.send_json(
                [{"type": "file", "path": file.name, "size": file.stat().st_size, "oid": "0" * 40} for file in files]
            )
        elif path.startswith(f"/tiny/llama/resolve/{COMMIT}/"):
            file = self.folder / path.rpartition("/")[2]
            headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{file.name}"'}
            if self.weights_bytes is not None and file.name == "model.safetensors":
                headers["X-Linked-Size"] = self.weights_bytes
            self.answer(file.read_bytes(), 200, headers)
        elif path.startswith("/api/models/tiny/llama/revision/"):
            self.refuse(404, "RevisionNotFound")
        else:
            self.refuse(404, "RepoNotFound")


@pytest.fixture
def hub(copy: Path) -> Iterator[str]:
    (copy / "pytorch_model.bin").write_bytes(b"never fetched")
    (copy / "modeling.py").write_text("never fetched")
    Hub.folder, Hub.requested = copy, []
    with running_hub(Hub) as address:
        yield address


@pytest.mark.deep
def test_a_model_is_fetched_from_the_hub_and_every_refusal_says_what_to_do(
    lab: Lab, hub: str, start_child: Any, tmp_path: Path
) -> None:
    home = str(tmp_path / "home")
    child = start_child(spawned=True, HF_ENDPOINT=hub, HF_HOME=home, HF_HUB_OFFLINE="0", HF_TOKEN="")

    def refused(model: str, revision: str | None = None) -> str:
        job = lab.prepare_job(base=BaseSection(model=model, revision=revision))
        answer, _ = child.send(lab.work(job, model_path=None))
        assert isinstance(answer, Failed)
        assert answer.failure.kind == FailureKind.BASE_MODEL
        return answer.failure.message

    answer, reports = child.send(lab.work(lab.prepare_job(), model_path=None))
    assert answer.result.fingerprint == lab.fingerprint
    fetching = [report.progress for report in reports if report.progress.phase == Phase.FETCHING_MODEL]
    assert fetching[-1].done == fetching[-1].total > 100_000
    fetched = {path.name for path in (tmp_path / "home").rglob("snapshots/*/*")}
    assert "model.safetensors" in fetched
    assert not fetched & {"pytorch_model.bin", "modeling.py"}
    n_requests = len(Hub.requested)
    child.result(lab.work(lab.init_job(base=BaseSection(model="tiny/llama")), model_path=None))
    assert len(Hub.requested) == n_requests  # only a prepare job contacts the hub again
    assert "HF_TOKEN" in refused("tiny/gated")
    assert "correct its name" in refused("tiny/absent")
    assert "no revision gone" in refused("tiny/llama", "gone")
    assert "is not a hub id" in refused("no such/model/at all")
    assert child.close() == 0


@pytest.mark.deep
def test_a_model_that_does_not_fit_on_the_disk_is_refused_before_its_first_byte(
    lab: Lab, hub: str, start_child: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Hub, "weights_bytes", str(10**16))
    child = start_child(spawned=True, HF_ENDPOINT=hub, HF_HOME=str(tmp_path / "home"), HF_HUB_OFFLINE="0", HF_TOKEN="")
    answer, _ = child.send(lab.work(lab.prepare_job(base=BaseSection(model="tiny/llama")), model_path=None))
    assert isinstance(answer, Failed)
    assert answer.failure.kind == FailureKind.BASE_MODEL
    assert re.match(
        r"tiny/llama needs 10,000,000,[0-9,]{11} bytes more on the disk of this agent, which has room for [0-9,]+: "
        r"free some, set HF_HOME to a folder on a larger disk, or map tiny/llama to its folder under \[models\]",
        answer.failure.message,
    )
    assert "HEAD " in str(Hub.requested)
    assert not any(each.startswith("GET ") and "/resolve/" in each for each in Hub.requested)
    assert child.close() == 0


@pytest.mark.parametrize(("offline", "words"), [(False, "check the network"), (True, "(HF_HUB_OFFLINE)")])
def test_an_unreachable_hub_says_what_to_do(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, offline: bool, words: str
) -> None:
    # read from the environment at its first import, whoever imports it first
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{free_port()}")
    message = failure(lab, lab.prepare_job(base=BaseSection(model="tiny/unknown")), model_path=None)
    assert words in message
    assert "[models]" in message


def test_an_adapter_beside_the_weights_is_refused_as_it_would_be_loaded_with_them(lab: Lab, copy: Path) -> None:
    """Report huggingface/peft#1381: such a folder loads with the adapter on it."""
    model = AutoModelForCausalLM.from_pretrained(copy)
    get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False)).save_pretrained(copy)
    assert "also holds an adapter" in failure(lab, model_path=copy)


@pytest.mark.parametrize(
    ("extra", "config"),
    [({}, {"num_hidden_layers": 1}), ({"model.layers.0.self_attn.q_proj.bias": torch.zeros(64)}, {})],
    ids=["fewer layers", "a bias"],
)
def test_tensors_that_the_configured_model_lacks_are_refused(
    lab: Lab, copy: Path, extra: dict[str, Any], config: dict[str, Any]
) -> None:
    """Report huggingface/transformers#46620: they are left out without a word."""
    tensors = load_file(copy / "model.safetensors") | extra
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    edit(copy / "config.json", **config)
    assert "that the model as configured does not have, model.layers." in failure(lab, model_path=copy)


def test_weights_that_are_quantised_already_are_refused(lab: Lab, copy: Path) -> None:
    """Report unslothai/unsloth-zoo#810: what is trained on them fits no other copy."""
    edit(copy / "config.json", quantization_config={"quant_method": "bitsandbytes", "load_in_8bit": True})
    assert "quantised already" in failure(lab, model_path=copy)


def test_a_tokenizer_that_draws_its_tokens_at_random_is_refused(lab: Lab, copy: Path) -> None:
    """Report huggingface/tokenizers#644: dropout is a part of the file, and stays on."""
    tokenizer = json.loads((copy / "tokenizer.json").read_text())
    tokenizer["model"]["dropout"] = 0.3
    (copy / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "at random" in failure(lab, model_path=copy)


def test_a_tokenizer_that_this_installation_reads_otherwise_has_another_fingerprint(lab: Lab, tmp_path: Path) -> None:
    """Report huggingface/transformers#45488: one version of the library loses the spaces of the same files."""
    tokenizer, other = (AutoTokenizer.from_pretrained(lab.model) for _ in range(2))
    other.backend_tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", split=False)
    digests = DigestCache(tmp_path / "digests.json")
    first, second = (digest(lab.model, each, digests, remote_code=False) for each in (tokenizer, other))
    assert first.differences(second) == ["tokenizer"]


@pytest.mark.parametrize(
    "config",
    [
        "[]",
        "{",
        '{"model_type": 5}',
        '{"model_type": "llama", "auto_map": 1, "text_config": 2, "num_hidden_layers": "x"}',
    ],
)
def test_a_configuration_that_is_none_is_refused(lab: Lab, copy: Path, config: str) -> None:
    (copy / "config.json").write_text(config)
    assert "config" in failure(lab, model_path=copy)


def test_a_width_that_the_weights_do_not_have_is_refused_in_words(lab: Lab, copy: Path) -> None:
    edit(copy / "config.json", vocab_size=400)
    assert "the base model cannot be loaded" in failure(lab, model_path=copy)


@pytest.mark.parametrize("names", [["/etc/passwd"], ["../model.safetensors"], ["a/b.safetensors"], [5], ["code.py"]])
def test_an_index_of_other_files_is_refused(lab: Lab, copy: Path, names: list[Any]) -> None:
    (copy / "model.safetensors").unlink()
    index = {"weight_map": {f"tensor {number}": name for number, name in enumerate(names)}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    assert "is not that of a plain file in this folder" in failure(lab, model_path=copy)


@pytest.mark.parametrize("index", ["[]", "[" * 100_000, '{"weight_map": 5}'])
def test_an_index_that_is_none_is_refused(lab: Lab, copy: Path, index: str) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(index)
    assert "is not a safetensors index" in failure(lab, model_path=copy)


def test_masks_that_older_versions_stored_are_no_tensors_of_the_model(lab: Lab, copy: Path) -> None:
    mask = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    old = {"model.layers.0.attn.bias": mask, "model.layers.0.attn.masked_bias": torch.tensor(-1e4)}
    save_file(load_file(copy / "model.safetensors") | old, copy / "model.safetensors", metadata={"format": "pt"})
    assert fingerprint(lab, copy).differences(lab.fingerprint) == ["weights"]


def test_a_setting_for_no_quantisation_is_none(lab: Lab, copy: Path) -> None:
    edit(copy / "config.json", quantization_config=None)
    assert fingerprint(lab, copy).weights == lab.fingerprint.weights


def test_a_librarys_error_leaves_without_the_paths_of_this_machine(lab: Lab, copy: Path) -> None:
    edit(copy / "config.json", auto_map={"AutoModelForCausalLM": "modeling_gone.Gone"})
    with pytest.raises(TaskFailed) as caught:
        lab.run(lab.work(lab.prepare_job(), model_path=copy, remote_code=True))
    assert "modeling_gone.py" in str(caught.value)
    assert caught.value.failure.message == "the base model cannot be loaded (OSError)"
