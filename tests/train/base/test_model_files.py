"""A model's folder: what leads out of it is refused with one text, and nothing outside is opened, hashed or loaded."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.train.base.model_folders import ONE_TEXT, edit, find, index, refusal

pytestmark = pytest.mark.train

NAMES = [
    "../private/pin.txt",
    "../private/gone.txt",
    "../private/model.safetensors",
    "/etc/passwd",
    "sub/model.safetensors",
    "./model.safetensors",
    "sub\\model.safetensors",
    "C:model.safetensors",
    "model.bin",
    "model.safetensors/..",
    ".safetensors",
    "..safetensors",
    "a\0.safetensors",
    "a\n.safetensors",
    "~.safetensors",
    "a" * 300 + ".safetensors",
    "",
    5,
    None,
    ["model.safetensors"],
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: ascii(name)[:40])
def test_an_index_names_plain_files_of_its_folder_alone(
    copy: Path, private: Path, tmp_path: Path, opened: list[str], name: Any
) -> None:
    index(copy, name)
    assert refusal(copy, tmp_path) == ONE_TEXT
    assert not [path for path in opened if path.startswith((str(private), "/etc/passwd"))]


def link(name: str, target: str) -> Callable[[Path], None]:
    """An edit that puts a link to a private file in the place of a file."""

    def put(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(folder.parent / "private" / target)

    return put


def index_with_link(target: str) -> Callable[[Path], None]:
    def put(folder: Path) -> None:
        index(folder, "part.safetensors")
        link("part.safetensors", target)(folder)

    return put


def template_folder(folder: Path) -> None:
    (folder / "additional_chat_templates").symlink_to(folder.parent / "private")


def template_in_folder(folder: Path) -> None:
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "a.jinja").symlink_to(folder.parent / "private" / "pin.txt")


def loop(folder: Path) -> None:
    (folder / "vocab.txt").symlink_to(folder / "vocab.txt")


def names(file: str, **keys: Any) -> Callable[[Path], None]:
    """An edit that adds keys to a JSON file; "@" stands for the private folder."""

    def put(folder: Path) -> None:
        text = json.dumps(keys).replace("@", str(folder.parent / "private"))
        edit(folder / file, **json.loads(text))
        if file == "special_tokens_map.json":  # it is read only where the tokenizer's configuration says little
            short = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
            (folder / "tokenizer_config.json").write_text(json.dumps(short))

    return put


def other_weights(folder: Path) -> None:
    shutil.copy(folder.parent / "private" / "model.safetensors", folder / "other.safetensors")
    edit(folder / "config.json", transformers_weights="other.safetensors")


WAYS_OUT: dict[str, Callable[[Path], None]] = {
    "weights": link("model.safetensors", "model.safetensors"),
    "weights to a text": link("model.safetensors", "pin.txt"),
    "weights to nothing": link("model.safetensors", "gone.txt"),
    "index": link("model.safetensors.index.json", "pin.txt"),
    "named by an index": index_with_link("pin.txt"),
    "named by an index, to nothing": index_with_link("gone.txt"),
    "config": link("config.json", "config.json"),
    "config to nothing": link("config.json", "gone.txt"),
    "tokenizer": link("tokenizer.json", "tokenizer.json"),
    "vocabulary": link("vocab.txt", "pin.txt"),
    "template": link("chat_template.jinja", "pin.txt"),
    "code": link("modeling_x.py", "pin.txt"),
    "adapter": link("adapter_config.json", "gone.txt"),
    "folder of templates": template_folder,
    "template in a folder": template_in_folder,
    "loop": loop,
    "pipe": lambda folder: os.mkfifo(folder / "merges.txt"),
    "pipe for weights": lambda folder: (index(folder, "p.safetensors"), os.mkfifo(folder / "p.safetensors"))[1],
    "transformers_weights": names("config.json", transformers_weights="@/model.safetensors"),
    "weights that the fingerprint does not cover": other_weights,
    "vocabulary in the map": names("special_tokens_map.json", vocab_file="@/pin.txt"),
    "tokenizer in the map": names("special_tokens_map.json", tokenizer_file="@/pin.txt"),
    "tokenizer in the map, to nothing": names("special_tokens_map.json", tokenizer_file="@/gone.txt"),
    "vocab": names("tokenizer_config.json", vocab="@/pin.txt"),
    "merges": names("tokenizer_config.json", merges="@/pin.txt"),
    "positional": names("tokenizer_config.json", init_inputs=["@/pin.txt"]),
    "sentencepiece": names("tokenizer_config.json", sp_model_kwargs={"model_file": "@/pin.txt"}),
    "versions": names("tokenizer_config.json", fast_tokenizer_files=["tokenizer.1.0/../../private/pin.json"]),
}


@pytest.mark.parametrize("way", WAYS_OUT)
def test_nothing_outside_of_the_folder_is_read_whatever_its_files_name(
    copy: Path, private: Path, tmp_path: Path, opened: list[str], way: str
) -> None:
    WAYS_OUT[way](copy)
    opened.clear()
    assert refusal(copy, tmp_path) == ONE_TEXT
    assert not [path for path in opened if path.startswith(str(private))]


def test_names_that_a_tokenizer_keeps_of_its_authors_machine_are_not_followed(
    copy: Path, private: Path, tmp_path: Path, opened: list[str]
) -> None:
    before = find(copy, tmp_path).tokenizer("the water rises")["input_ids"]
    leftovers = ("tokenizer_file", "vocab_file", "special_tokens_map_file", "merges_file")
    targets = ("tokenizer.json", "pin.txt", "special_tokens_map.json", "gone.txt")
    named = {key: str(private / name) for key, name in zip(leftovers, targets, strict=True)}
    edit(copy / "tokenizer_config.json", name_or_path="/content/model", **named)
    opened.clear()
    assert find(copy, tmp_path).tokenizer("the water rises")["input_ids"] == before
    assert not [path for path in opened if path.startswith(str(private))]


@pytest.mark.parametrize("where", ["config.json", "tokenizer_config.json"])
@pytest.mark.parametrize("code", ["org/other--modeling.Model", "../private/code.Model", "/x/code.Model", 5])
def test_code_of_another_place_is_refused(copy: Path, tmp_path: Path, where: str, code: Any) -> None:
    edit(copy / where, auto_map={"AutoModelForCausalLM": code})
    assert "names code outside of its folder (auto_map)" in refusal(copy, tmp_path, remote_code=True)


def test_an_index_without_end_is_not_read(copy: Path, tmp_path: Path) -> None:
    index(copy)
    with (copy / "model.safetensors.index.json").open("wb") as file:
        file.truncate(65 << 20)
    assert refusal(copy, tmp_path) == "model.safetensors.index.json of the base model has more than 64 MiB"
