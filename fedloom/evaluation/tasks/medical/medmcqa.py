"""MedMCQA: questions of Indian medical entrance examinations with four options."""

from fedloom.evaluation.harness.task import HarnessTask
from fedloom.evaluation.tasks.base import DataFile, Item, TaskMetric
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.options import counted_from_either

_OPTIONS = ("opa", "opb", "opc", "opd")
_FILE = DataFile(
    "medmcqa/dev.json",
    (),
    4183,
    "from github.com/medmcqa/medmcqa (data.zip), or openlifescienceai/medmcqa at the hub, its validation split",
    "MIT",
)


class MedMcqa(HarnessTask):
    """MedMCQA. The authors count answers from 1, the hub from 0: the file tells which."""

    name = "medmcqa"
    title = "MedMCQA"
    yaml = "medmcqa"
    origin = "MedMCQA (Pal et al. 2022, MIT); format of lm-evaluation-harness (MIT)"
    files = (_FILE,)
    n_published = 4183
    metrics = (
        TaskMetric("acc", "accuracy", "the likeliest of the letters A to D after the question is right", chance=0.25),
    )

    def read(self, source: Source) -> list[Item]:
        """The questions, by subject. Raises BadData if the file does not tell what its answers are counted from."""
        table = source.table(_FILE, Columns(texts=("question", *_OPTIONS), values=("cop",)))
        answers, begin = counted_from_either([row["cop"] for row in table.rows], len(_OPTIONS), table.path)
        source.notes.append(f"the answers of {table.path} are counted from {begin}")
        return [
            Item(
                str(row.get("id") or number),
                str(row.get("subject_name") or ""),
                {"question": row["question"], "choices": [row[each] for each in _OPTIONS], "answer": answer},
            )
            for number, (row, answer) in enumerate(zip(table.rows, answers, strict=True))
        ]
