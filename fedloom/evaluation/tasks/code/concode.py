"""ConCode: one method in Java from a sentence, on the development set: the test set's answers are hidden."""

from pathlib import Path

from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items, TaskMetric
from fedloom.evaluation.tasks.code.line_task import LineTask
from fedloom.evaluation.tasks.files.columns import Columns
from fedloom.evaluation.tasks.files.source import Source


class Concode(LineTask):
    """The sentence alone is asked, without the class around it."""

    name = "concode"
    title = "ConCode"
    origin = "CodeXGLUE, C-UDA and CC0 1.0; prompt and solved instructions of bigcode-evaluation-harness, Apache-2.0"
    n_published = 2000
    entry = "Answer the following instructions in a one line of Java code:"
    solved = (
        (
            "get the distance of map coordinates to the center",
            "float function ( int arg0 , int arg1 ) { int loc0 = arg0 - cx ; int loc1 = arg1 - cy ; "
            "return getSquaredDistance ( loc0 , loc1 ) ; }",
        ),
        ("check if details are parsed", "boolean function ( ) { return isParsed ; }"),
    )
    exact_match = TaskMetric("em", "exact match", "share of lines whose tokens, at spaces, are those of the reference")
    files = (
        DataFile(
            "concode/dev.json",
            n_rows=2000,
            where="Text-Code/text-to-code/dataset/concode/dev.json of microsoft/CodeXGLUE",
            licence="C-UDA; the file beside it CC0 1.0",
        ),
    )

    def __init__(self, in_chat: bool = False) -> None:
        super().__init__(("bleu_codexglue",), in_chat)

    def load(self, data: Path) -> Items:
        source = Source(data)
        table = source.table(self.files[0], Columns(texts=("code", "nl")))
        items = []
        for index, row in enumerate(table.rows):
            if not row["code"].strip():
                raise BadData(f"{table.place(index)} has no answer; the test set hides them, use dev.json")
            text = row["nl"].split("concode_field_sep")[0].strip().removesuffix(".").strip()
            items.append(Item(str(index), "", {"text": text, "reference": row["code"]}))
        return source.items(items, self.n_published)
