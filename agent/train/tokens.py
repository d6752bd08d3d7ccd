"""Tokenised rows: made once, split by their content, kept on disk and in memory."""

import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from agent.errors import TaskFailed
from agent.settings import DataSource
from agent.train.files import write_whole
from agent.train.rows import read_rows
from agent.train.source import Digests, Reporter
from agent.train.templates import Pair, Row, Text, check, render
from shared.campaign import Template, TrainingKind
from shared.digest import sha256_hex, sha256_of_parts
from shared.wire.jobs import Fingerprint
from shared.wire.leases import FailureKind, Phase, Progress

IGNORED = -100
"""The label of a token that the loss leaves out."""
_FORMAT = "1"  # raise it when the same inputs give other tokens
_BATCH = 256
_KEPT = 4  # data sets in memory

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens end to end. ids: (T,) int32; offsets: (n + 1,) int64, where each begins; starts: (n,) int32, how
    many of a row's tokens come before its first supervised one."""

    ids: NDArray[np.int32]
    offsets: NDArray[np.int64]
    starts: NDArray[np.int32]

    @classmethod
    def of(cls, rows: Sequence[tuple[Sequence[int], int]]) -> Self:
        """From (tokens, start) of each row."""
        lengths = [0, *(len(tokens) for tokens, _ in rows)]
        return cls(
            np.fromiter((token for tokens, _ in rows for token in tokens), np.int32, count=sum(lengths)),
            np.cumsum(lengths, dtype=np.int64),
            np.fromiter((start for _, start in rows), np.int32, count=len(rows)),
        )

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, (n,)."""
        return np.diff(self.offsets)

    @cached_property
    def sha256(self) -> str:
        """The digest of all that they are."""
        return sha256_of_parts(sha256_hex(array.data) for array in (self.ids, self.offsets, self.starts))

    def example(self, index: int) -> dict[str, list[int]]:
        """A row as ``input_ids`` and ``labels`` of one length; labels are IGNORED before the supervised tokens."""
        tokens: list[int] = self.ids[self.offsets[index] : self.offsets[index + 1]].tolist()
        start = int(self.starts[index])
        return {"input_ids": tokens, "labels": [IGNORED] * start + tokens[start:]}


@dataclass(frozen=True)
class PairRows:
    """Preferences: pairs of rows of one prompt each. sides: 2n rows, the chosen and the rejected one of each pair in
    turn."""

    sides: TokenRows

    def __len__(self) -> int:
        return len(self.sides) // 2

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair's longer side, (n,)."""
        return self.sides.lengths.reshape(-1, 2).max(axis=1)

    @property
    def sha256(self) -> str:
        """The digest of all that they are."""
        return self.sides.sha256

    def example(self, index: int) -> dict[str, dict[str, list[int]]]:
        """A pair as ``chosen`` and ``rejected``, each an example of ``TokenRows``."""
        return {"chosen": self.sides.example(2 * index), "rejected": self.sides.example(2 * index + 1)}


@dataclass(frozen=True)
class Prepared:
    """An owner's data for one kind of training, model, template and length. dropped: rows that cannot be used."""

    train: TokenRows | PairRows
    held_out: TokenRows | PairRows
    dropped: int


class Tokenizing:
    """Turns texts into exact (tokens, start) pairs, whatever the tokenizer does at the start of a text.

    Prompt and completion are tokenised apart, so that no token spans the border; special tokens come once, from here.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._max_length = max_length
        bare, full = self._encode(["x"])[0], tokenizer("x")["input_ids"]
        at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        self._before = list(full[:at])
        """Special tokens that the tokenizer puts before a text; it may put some behind it too, which are not wanted."""
        self._anchor: list[int] = []
        if tokenizer.convert_ids_to_tokens(self._encode(["a"])[0][:1])[0].startswith("▁"):
            # SentencePiece puts a space before every text. A completion is not the beginning of one, so it is tokenised
            # behind a newline, whose tokens are then taken off.
            self._anchor = self._encode(["\n"])[0]
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = special | set(tokenizer.all_special_ids)
        if tokenizer.eos_token_id is None:
            raise TaskFailed(FailureKind.BASE_MODEL, "the base model's tokenizer has no end-of-sequence token")

    def rows(self, texts: Sequence[Text]) -> Iterator[tuple[list[int], int] | None]:
        """Each text's tokens, cut at the maximum length, and where the supervised ones start; None if none fits."""
        prompts = self._encode([text.prompt for text in texts])
        completions = self._continue([text.completion for text in texts])
        for text, prompt, completion in zip(texts, prompts, completions, strict=True):
            before = self._before if text.starts_bare else []
            start = len(before) + len(prompt)
            end = [] if completion and completion[-1] in self._special else [self._tokenizer.eos_token_id]
            tokens = [*before, *prompt, *completion, *end][: self._max_length]
            start = max(start, 1)  # nothing comes before the first token, so nothing can predict it
            yield (tokens, start) if start < len(tokens) else None

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encoded: list[list[int]] = self._tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return encoded

    def _continue(self, texts: list[str]) -> list[list[int]]:
        plain = self._encode(texts)
        if not self._anchor:
            return plain
        size = len(self._anchor)
        anchored = self._encode([f"\n{text}" for text in texts])
        # A text that begins with a newline may join it with ours.
        return [a[size:] if a[:size] == self._anchor else p for a, p in zip(anchored, plain, strict=True)]


def is_held_out(row: Row | Pair, fraction: float) -> bool:
    """Whether a row is kept for evaluation. It depends on the row's own text alone: rows that are added later move no
    other row, and equal rows stay on one side."""
    digest = sha256_of_parts(astuple(row))
    return int(digest[:16], 16) / 2**64 < fraction


class DataCache:
    """The owner's data, tokenised: in memory, on disk, or made now."""

    def __init__(self) -> None:
        self._kept: dict[str, Prepared] = {}

    def prepare(
        self,
        source: DataSource,
        template: Template,
        max_length: int,
        tokenizer: Any,
        base: Fingerprint,
        folder: Path,
        report: Reporter,
        *,
        kind: TrainingKind,
    ) -> Prepared:
        """The data of *source*, with cache files in *folder*. Raises TaskFailed (data) with what is wrong."""
        key = _key(source, kind, template, max_length, base, Digests(folder / "digests.json"))
        found = self._kept.pop(key, None)
        if found is None:
            path = folder / f"tokens-{key}.npz"
            found = _load(path, kind)
            if found is None:
                found = _private(lambda: _tokenize(source, kind, template, max_length, tokenizer, report))
                _save(path, found)
        self._kept[key] = found  # at the end: the latest
        for old in list(self._kept)[:-_KEPT]:
            del self._kept[old]
        return found


def _private(work: Callable[[], Prepared]) -> Prepared:
    """Run *work* on the owner's rows; an unforeseen error leaves with its type only, for its text may quote a row."""
    try:
        return work()
    except (TaskFailed, MemoryError):
        raise
    except Exception as error:
        message = f"preparing the data failed with {type(error).__name__}; the task's log here says more"
        raise TaskFailed(FailureKind.CRASH, message) from error


def _key(
    source: DataSource, kind: TrainingKind, template: Template, max_length: int, base: Fingerprint, digests: Digests
) -> str:
    files = []
    for path in (source.path, source.held_out_path):
        try:
            files.append(digests.of(path) if path else "")
        except OSError as error:
            assert path is not None
            message = f"{path.name}: the file cannot be read ({error.strerror}); correct its path in agent.toml"
            raise TaskFailed(FailureKind.DATA, message) from error
    suffixes = [path.suffix.lower() if path else "" for path in (source.path, source.held_out_path)]
    columns = [kind, source.input or "", *source.columns(kind).values()]
    model = [base.tokenizer, base.template, template, str(max_length)]
    return sha256_of_parts([_FORMAT, *files, *suffixes, *columns, str(source.held_out), *model])


def _tokenize(
    source: DataSource, kind: TrainingKind, template: Template, max_length: int, tokenizer: Any, report: Reporter
) -> Prepared:
    check(template, tokenizer)
    report(Progress(phase=Phase.TOKENIZING))
    rows = read_rows(source.path, source, kind)
    held_out: Sequence[Row | Pair]
    train: Sequence[Row | Pair]
    if source.held_out_path is not None:
        held_out = read_rows(source.held_out_path, source, kind)
        kept = set(held_out)
        train = [row for row in rows if row not in kept]  # training never sees what evaluation asks
    else:
        held_out = [row for row in rows if is_held_out(row, source.held_out)]
        train = [row for row in rows if not is_held_out(row, source.held_out)]
    tokenizing = Tokenizing(tokenizer, max_length)
    total, done, parts = len(train) + len(held_out), 0, []
    for part in (train, held_out):
        usable: list[tuple[list[int], int]] = []
        for begin in range(0, len(part), _BATCH):
            some = part[begin : begin + _BATCH]
            answered = [row for row in some if all(side.completion for side in row.sides)]  # else nothing to learn
            texts = [render(side, template, tokenizer) for row in answered for side in row.sides]
            tokens = tokenizing.rows(texts)
            for row in answered:
                sides = [found for _ in row.sides if (found := next(tokens)) is not None]
                if len(sides) == len(row.sides) and (len(sides) == 1 or sides[0] != sides[1]):
                    usable += sides
            done += len(some)
            report(Progress(phase=Phase.TOKENIZING, done=done, total=total))
        parts.append(_rows_of(kind, TokenRows.of(usable)))
    prepared = Prepared(parts[0], parts[1], dropped=total - sum(map(len, parts)))
    if prepared.dropped == total:
        why = "a completion that is empty, or two that are equal" if kind == "dpo" else "an empty completion"
        message = f"all {total} rows are too long or have {why}: max_length {max_length} leaves none any room"
        raise TaskFailed(FailureKind.DATA, f"{source.path.name}: {message}")
    if len(prepared.train) == 0:
        message = f"no row is left to train on ({len(prepared.held_out)} held out, {prepared.dropped} dropped)"
        raise TaskFailed(FailureKind.DATA, f"{source.path.name}: {message}")
    return prepared


def _rows_of(kind: TrainingKind, rows: TokenRows) -> TokenRows | PairRows:
    return PairRows(rows) if kind == "dpo" else rows


def _save(path: Path, data: Prepared) -> None:
    arrays: dict[str, Any] = {"dropped": np.int64(data.dropped)}
    for part, found in (("train", data.train), ("held_out", data.held_out)):
        rows = found.sides if isinstance(found, PairRows) else found
        arrays |= {f"{part}_ids": rows.ids, f"{part}_offsets": rows.offsets, f"{part}_starts": rows.starts}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # a name without .npz would get one
            np.savez(file, **arrays)

    write_whole(path, write)


def _load(path: Path, kind: TrainingKind) -> Prepared | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            train, held_out = (
                _rows_of(kind, TokenRows(file[f"{part}_ids"], file[f"{part}_offsets"], file[f"{part}_starts"]))
                for part in ("train", "held_out")
            )
            return Prepared(train, held_out, dropped=int(file["dropped"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        log.warning("%s cannot be read; the data is tokenised again", path.name)
        return None
