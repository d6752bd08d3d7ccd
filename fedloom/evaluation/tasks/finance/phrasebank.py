"""Financial PhraseBank (Malo et al., 2014): sentences on which at least half of the annotators agree."""

from pathlib import Path

from fedloom.evaluation.tasks.base import BadData, DataFile, Item, Items
from fedloom.evaluation.tasks.files.source import Source
from fedloom.evaluation.tasks.finance.corpora import Corpus, checked_label, item
from fedloom.evaluation.tasks.finance.held_out import drawn
from shared.digest import sha256_hex

_SHARE, _SEED = 0.25, 42
_TEST_SHA256 = "78a4e0d978ca3e79de9a965eaf365e7a515032807007c4600a5c807a6d529daf"
"""Of the test's sentences, joined by line breaks."""


class PhraseBank(Corpus):
    """A quarter of the sentences, drawn with seed 42: 1,212."""

    name = "fpb"
    n_published = 1212
    title = "FPB"
    files = (
        DataFile(
            "fpb/Sentences_50Agree.txt",
            ("13388b8bf2f878c68fb4d47564fa0072756eb4e9ba4a16467d6d7f0a29a6a742",),
            4846,
            "Sentences_50Agree.txt of FinancialPhraseBank-v1.0.zip, of the data set takala/financial_phrasebank",
            "CC BY-NC-SA 3.0",
        ),
    )

    def load(self, data: Path) -> Items:
        (file,) = self.files
        source = Source(data)
        rows = _rows(source.text(file, or_else="iso-8859-1"), file.path)  # UTF-8 is a copy that was converted
        source.count(file, len(rows))
        assert file.n_rows is not None
        found = drawn(source, rows, file.n_rows, _SHARE, _SEED)
        sentences = "\n".join(item.content["text"] for item in found.items)
        if len(rows) == file.n_rows and sha256_hex(sentences.encode()) != _TEST_SHA256:
            raise BadData(
                f"{file.path} has the published number of rows, but other ones or another order, so that the draw of "
                "the test gives other sentences: put the published file there"
            )
        return found


def _rows(text: str, shown: str) -> list[Item]:
    rows: list[Item] = []
    for number, line in enumerate(text.split("\n"), 1):
        line = line.removesuffix("\r")
        if not line:
            continue
        sentence, at, label = line.rpartition("@")
        if not at:
            raise BadData(f"{shown}: line {number} has no @ before a label; is the file truncated?")
        rows.append(item(len(rows), sentence, checked_label(label, f"{shown}: line {number}")))
    return rows
