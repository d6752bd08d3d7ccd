"""Questions and references of a set, from its files to items."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedloom.evaluation.judging.templates import Template, templates_of
from fedloom.evaluation.tasks.base import BadData, Item, Items
from fedloom.evaluation.tasks.chat.benches import PROMPTS, Bench
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source


def read_bench(bench: Bench, data: Path) -> tuple[Items, Mapping[str, Template]]:
    """The items of a set, with ``question_1``, ``ref_answer_1`` and so on by turn, and the prompts for judges by name.

    The first question is there as ``question`` too, as prompts for one turn have it.

    Raises DataMissing, and BadData also if a question that needs a reference has none.
    """
    source = Source(data)
    table = source.table(bench.questions, Columns(texts=("category",), values=("question_id", "turns")))
    references = _references(bench, source)
    items = []
    for index, row in enumerate(table.rows):
        place, name = table.place(index), _id(row["question_id"], table.place(index))
        content = _by_turn("question", row["turns"], bench, place)
        content["question"] = content["question_1"]
        if bench.has_reference(row["category"]):
            if name not in references:
                raise BadData(f"{bench.references.path} has no reference for question {name}")
            content |= references[name]
        items.append(Item(name, row["category"], content))
    prompts = source.table(PROMPTS, Columns(texts=("name", "system_prompt", "prompt_template")))
    try:
        templates = templates_of(prompts.rows)
    except ValueError as error:
        raise BadData(f"{prompts.path}: {error}") from None
    return source.items(items, bench.n_questions), templates


def _references(bench: Bench, source: Source) -> dict[str, dict[str, str]]:
    table = source.table(bench.references, Columns(values=("question_id", "choices")))
    found: dict[str, dict[str, str]] = {}
    for index, row in enumerate(table.rows):
        place, choices = table.place(index), row["choices"]
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            raise BadData(f"{place} has no answer in choices")
        name = _id(row["question_id"], place)
        if name in found:
            raise BadData(f"{place}: question {name} has two references")
        found[name] = _by_turn("ref_answer", choices[0].get("turns"), bench, place)
    return found


def _by_turn(name: str, turns: Any, bench: Bench, place: str) -> dict[str, str]:
    texts = turns if isinstance(turns, list) else []
    if len(texts) < bench.n_turns or not all(isinstance(text, str) and text.strip() for text in texts):
        raise BadData(f"{place} has no {bench.n_turns} texts as turns")
    return {f"{name}_{turn}": text for turn, text in enumerate(texts[: bench.n_turns], 1)}


def _id(value: Any, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
        raise BadData(f"{place}: question_id is no number and no name")
    return str(value)
