"""Every bundled algorithm trains in every kind of training, and so does a tokenizer without padding."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from agent.orders.job_files import CLIENT_STATE_FILE, DELTA_FILE, EXTRAS_FILE
from shared import algorithms
from tests.train.conftest import Lab, first_in_fast, in_pairs, read

pytestmark = pytest.mark.train

KINDS: list[str] = ["sft", "dpo"]


@pytest.mark.parametrize(("name", "kind"), in_pairs(sorted(algorithms.bundled()), KINDS))
def test_every_algorithm_trains(lab: Lab, name: str, kind: str) -> None:
    adapter = lab.adapter_0()
    work = lab.work(lab.train_job(adapter, algorithm=name, training_kind=kind, steps=1), adapter=adapter)
    lab.run(work)
    delta, client = read(work.folder / DELTA_FILE), algorithms.find(name).client
    assert all(values.any() for values in delta.values())
    for file, slots in ((EXTRAS_FILE, client.extras), (CLIENT_STATE_FILE, client.state)):
        tensors = read(work.folder / file) if (work.folder / file).exists() else {}
        assert set(tensors) == {f"{slot}/{tensor}" for slot in slots for tensor in delta}


@pytest.mark.parametrize("kind", first_in_fast(KINDS))
def test_a_tokenizer_with_neither_padding_nor_unknown_token_trains(
    new_lab: Callable[..., Lab], tmp_path: Path, kind: str
) -> None:
    lab = new_lab()
    lab.model = Path(shutil.copytree(lab.model, tmp_path / "model"))
    tokenizer = AutoTokenizer.from_pretrained(lab.model)
    tokenizer.pad_token = None
    tokenizer.save_pretrained(lab.model)
    reloaded = AutoTokenizer.from_pretrained(lab.model)
    assert reloaded.pad_token is reloaded.unk_token is None
    lab.fingerprint = lab.run(lab.work(lab.prepare_job(training_kind=kind))).fingerprint
    adapter = lab.adapter_0()
    work = lab.work(lab.train_job(adapter, training_kind=kind, steps=1), adapter=adapter)
    lab.run(work)
    assert any(values.any() for values in read(work.folder / DELTA_FILE).values())
