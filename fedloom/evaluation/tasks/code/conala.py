"""CoNaLa: one line of Python from an instruction."""

from pathlib import Path

from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items
from fedloom.evaluation.tasks.code.line_task import LineTask
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source


class Conala(LineTask):
    """The rewritten intent is asked, or the intent where nobody rewrote it."""

    name = "conala"
    title = "CoNaLa"
    origin = "CoNaLa, MIT; prompt and solved instructions of bigcode-evaluation-harness, Apache-2.0"
    n_published = 500
    max_new_tokens = 128
    entry = "Answer the following instructions in one line of Python code:"
    solved = (
        ("convert a list of integers into a single integer", "r = int(''.join(map(str, x)))"),
        ("how to convert a datetime string back to datetime object?", "datetime.datetime.strptime(str, '%m/%d/%Y')"),
    )
    files = (
        DataFile(
            "conala/conala-test.json",
            ("b3f96344efa3bb819e2fe66cfd68be289ca4e4d37f5af19c32cf4ae211e8077e",),
            500,
            "conala-test.json of conala-corpus.github.io",
            "MIT (card of neulab/conala)",
        ),
    )

    def __init__(self, in_chat: bool = False) -> None:
        super().__init__(("bleu_13a", "bleu_conala"), in_chat)

    def load(self, data: Path) -> Items:
        source = Source(data)
        table = source.table(self.files[0], Columns(texts=("intent", "snippet"), nullable=("rewritten_intent",)))
        items = []
        for index, row in enumerate(table.rows):
            text = str(row["rewritten_intent"] or row["intent"]).strip()
            if not text or not row["snippet"].strip():
                raise BadData(f"{table.place(index)} has no instruction, or no snippet")
            # one question of the forum has several rows, so the row's place is its id
            items.append(Item(str(index), "", {"text": text, "reference": row["snippet"]}))
        return source.items(items, self.n_published)
