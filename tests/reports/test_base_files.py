"""Files of a base model: which of them are loaded, and what an adapter may change."""

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaForCausalLM

from agent.errors import TaskFailed
from agent.train.base.model import Base
from agent.train.base.on_disk.folder import weight_files
from shared.campaign.spec import LoraSection
from tests.support.tiny import make_model
from tests.train.conftest import Lab
from tests.train.local_requests import merge_request

pytestmark = pytest.mark.train


def logits(folder: Path) -> torch.Tensor:
    with (
        Base(folder, torch.device("cpu"), torch.float32, remote_code=False).without_adapter() as model,
        torch.no_grad(),
    ):
        output: torch.Tensor = model(input_ids=torch.tensor([[5, 6, 7, 8]])).logits
    return output


def test_of_a_single_file_beside_stale_shards_the_digested_one_is_loaded(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", seed=1)
    expected = logits(folder)
    shards = LlamaForCausalLM.from_pretrained(make_model(tmp_path / "other", seed=2))
    shards.save_pretrained(folder, max_shard_size="100KB")
    assert (folder / "model.safetensors.index.json").is_file()
    assert [path.name for path in weight_files(folder)] == ["model.safetensors"]
    assert torch.equal(logits(folder), expected)
    (folder / "model.safetensors").unlink()
    assert len(weight_files(folder)) > 1
    assert not torch.equal(logits(folder), expected)


@pytest.mark.parametrize(
    ("targets", "says"),
    [(["embed_tokens"], "no linear module embed_tokens"), (["q_proj", "gate_prj"], "no linear module gate_prj")],
)
def test_a_target_that_cannot_be_adapted_is_refused_and_not_left_out(
    tmp_path: Path, targets: list[str], says: str
) -> None:
    base = Base(make_model(tmp_path), torch.device("cpu"), torch.float32, remote_code=False)
    with pytest.raises(TaskFailed, match=says), base.adapter(LoraSection(rank=2, target_modules=targets), seed=0):
        pass


def test_a_base_that_contradicts_itself_about_sampling_is_merged(lab: Lab, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "base")
    contradiction = {"do_sample": False, "temperature": 0.9, "top_p": 0.6, "eos_token_id": 2}
    (folder / "generation_config.json").write_text(json.dumps(contradiction))
    lab.carry_out(merge_request(lab, lab.adapter_0(), tmp_path / "out", path=folder, fingerprint=None))
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text()) == contradiction
