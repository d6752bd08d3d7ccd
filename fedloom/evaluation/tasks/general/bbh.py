"""BBH: the 27 hard tasks of BIG-Bench, with three examples, by reasoning or directly."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import ClassVar

from fedloom.evaluation.harness.rows import Row
from fedloom.evaluation.harness.running import Sample
from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Outcome, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns, rows_of
from fedloom.evaluation.tasks.files.known_files import known
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.general.bbh_parts import PARTS
from fedloom.evaluation.tasks.general.bbh_prompts import Prompts, read_prompts
from fedloom.evaluation.tasks.general.bbh_rules import reasoned_answer

_N_ROWS = {"causal_judgement": 187, "penguins_in_a_table": 146, "snarks": 178}
_WHERE = "from github.com/suzgunmirac/BIG-Bench-Hard"
_HARNESS = "for comparison with lm-evaluation-harness: "


class _Bbh(HarnessTask):
    """What both ways share. The mean over items weighs tasks by their size."""

    shots = 3
    origin = "BBH, its examples and reasoning (Suzgun et al. 2022, MIT); format of lm-evaluation-harness (MIT)"
    n_published = 6511
    files = (
        *(DataFile(f"bbh/{part}.json", (), _N_ROWS.get(part, 250), _WHERE, "MIT") for part in PARTS),
        *(
            DataFile(path, known(path), None, _WHERE, "MIT")
            for path in (f"bbh/cot-prompts/{part}.txt" for part in PARTS)
        ),
    )
    reasons: bool

    def read(self, source: Source) -> list[Item]:
        """The rows of all 27 tasks; each must be there, with its examples."""
        items = []
        self._prompts: dict[str, Prompts] = {}
        for part, file, examples in zip(PARTS, self.files, self.files[len(PARTS) :], strict=False):
            content = source.content(file)
            if isinstance(content.value, dict):
                content = replace(content, value=content.value.get("examples"))
            rows = rows_of(content, Columns(values=("input", "target")))
            source.count(file, len(rows), content)
            self._prompts[part] = read_prompts(source.text(examples), examples.path)
            description = self._prompts[part].description
            for number, row in enumerate(rows):
                asked = {"input": str(row["input"]), "target": str(row["target"]), "description": description}
                items.append(Item(f"{part}/{number}", part, asked))
        return items

    def read_shots(self, source: Source, items: Sequence[Item]) -> Mapping[str, Sequence[Row]]:  # noqa: ARG002
        """The three examples of each task."""
        shots = {}
        for part, prompts in self._prompts.items():
            if len(prompts.examples) != self.shots:
                raise BadData(f"bbh/cot-prompts/{part}.txt has {len(prompts.examples)} examples, and not three")
            shots[part] = [
                {"input": each.question, "target": each.reasoning if self.reasons else each.answer, "description": ""}
                for each in prompts.examples
            ]
        return shots


class Bbh(_Bbh):
    """With reasoning before each answer."""

    name = "bbh"
    title = "BBH"
    yaml = "bbh"
    reasons = True
    metrics = (
        TaskMetric("exact_match", "exact match", 'the text after "the answer is", without a full stop, is the target'),
        TaskMetric(
            "exact_match_harness",
            "exact match (harness)",
            _HARNESS + 'the reply ends at any capital Q, and the text after "the answer is" loses its last character',
        ),
    )
    scores: ClassVar[Mapping[str, tuple[str, str]]] = {
        name: ("none", name) for name in ("exact_match", "exact_match_harness")
    }

    def outcome(self, item: Item, sample: Sample) -> Outcome:
        """Also marks replies without an answer."""
        return marked_unparsed(super().outcome(item, sample))


class BbhDirect(_Bbh):
    """With the answer alone."""

    name = "bbh_direct"
    title = "BBH, direct answers"
    yaml = "bbh_direct"
    reasons = False
    metrics = (
        TaskMetric(
            "exact_match", "exact match", "the reply's first line, without white space around it, is the target"
        ),
        TaskMetric("starts_with", "begins with", "the reply begins with the target, as in instruct-eval"),
        TaskMetric(
            "exact_match_harness",
            "exact match (harness)",
            _HARNESS + "the whole reply up to a capital Q, with its leading space, is the target",
        ),
    )
    scores: ClassVar[Mapping[str, tuple[str, str]]] = {
        name: ("none", name) for name in ("exact_match", "starts_with", "exact_match_harness")
    }


def marked_unparsed(outcome: Outcome) -> Outcome:
    """The outcome, with the flag ``unparsed`` if the reply names no answer."""
    if outcome.reply is None or reasoned_answer(outcome.reply) is not None:
        return outcome
    return replace(outcome, flags=outcome.flags | {"unparsed"})
