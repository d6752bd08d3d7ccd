"""Tokenised rows: made once, split by their content, kept on disk and in memory."""

import logging
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from agent.data.own_template import OwnTemplate, template_of
from agent.data.reading import read_split, skip_reason
from agent.data.records import refuse
from agent.data.rows import Pair, Row
from agent.data.tables import data_digest
from agent.errors import TaskFailed
from agent.settings import DataSource
from agent.train.base.source import Digests, Reporter
from agent.train.data.templates import Text, check, render
from shared.campaign import Template, TrainingKind
from shared.digest import sha256_hex, sha256_of_parts
from shared.durable import atomic_write
from shared.wire.jobs import Fingerprint
from shared.wire.leases import FailureKind, Phase, Progress

IGNORED = -100
"""The label of a token that the loss leaves out."""
_FORMAT = "2"  # raise it when the same inputs give other tokens
_ARRAYS = ("ids", "supervised", "offsets")
_BATCH = 256
_KEPT = 4  # data sets in memory

Form = Template | OwnTemplate

log = logging.getLogger(__name__)


TokenRow = tuple[list[int], list[bool]]
"""A row's tokens, and which of them are supervised."""


@dataclass(frozen=True)
class TokenRows:
    """Rows of tokens end to end. ids: (T,) int32; supervised: (T,) bool, which of them the loss covers; offsets: (n +
    1,) int64, where each row begins."""

    ids: NDArray[np.int32]
    supervised: NDArray[np.bool_]
    offsets: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[TokenRow]) -> Self:
        """From the tokens of each row, and which of them are supervised."""
        lengths = [0, *(len(tokens) for tokens, _ in rows)]
        total = sum(lengths)
        return cls(
            np.fromiter((token for tokens, _ in rows for token in tokens), np.int32, count=total),
            np.fromiter((one for _, supervised in rows for one in supervised), np.bool_, count=total),
            np.cumsum(lengths, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, (n,)."""
        return np.diff(self.offsets)

    @property
    def n_supervised(self) -> NDArray[np.int64]:
        """Supervised tokens of each row, (n,)."""
        before = np.concatenate([np.zeros(1, np.int64), np.cumsum(self.supervised, dtype=np.int64)])
        return np.diff(before[self.offsets])

    @cached_property
    def sha256(self) -> str:
        """The digest of all that they are."""
        return sha256_of_parts(sha256_hex(array.data) for array in (self.ids, self.supervised, self.offsets))

    def take(self, indices: NDArray[np.int64]) -> Self:
        """Some of the rows, in the order of *indices*."""
        parts = [slice(self.offsets[index], self.offsets[index + 1]) for index in indices]
        offsets = np.cumsum([0, *self.lengths[indices]], dtype=np.int64)
        ids = np.concatenate([np.empty(0, np.int32), *(self.ids[part] for part in parts)])
        supervised = np.concatenate([np.empty(0, np.bool_), *(self.supervised[part] for part in parts)])
        return type(self)(ids, supervised, offsets)

    def example(self, index: int) -> dict[str, list[int]]:
        """A row as ``input_ids`` and ``labels`` of one length; labels are IGNORED where nothing is supervised."""
        part = slice(self.offsets[index], self.offsets[index + 1])
        ids = self.ids[part]
        return {"input_ids": ids.tolist(), "labels": np.where(self.supervised[part], ids, IGNORED).tolist()}


@dataclass(frozen=True)
class PairRows:
    """Preferences: pairs of rows of one prompt each. sides: 2n rows, the chosen and the rejected one of each pair in
    turn."""

    completions: TokenRows

    def __len__(self) -> int:
        return len(self.completions) // 2

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each pair's longer side, (n,)."""
        return self.completions.lengths.reshape(-1, 2).max(axis=1)

    @property
    def sha256(self) -> str:
        """The digest of all that they are."""
        return self.completions.sha256

    def example(self, index: int) -> dict[str, dict[str, list[int]]]:
        """A pair as ``chosen`` and ``rejected``, each an example of ``TokenRows``."""
        return {"chosen": self.completions.example(2 * index), "rejected": self.completions.example(2 * index + 1)}


@dataclass(frozen=True)
class Prepared:
    """An owner's data for one kind of training, model, template and length. dropped: rows that cannot be used."""

    train: TokenRows | PairRows
    held_out: TokenRows | PairRows
    dropped: int


class Tokenizing:
    """Turns texts into exact tokens, whatever the tokenizer does at the start of a text.

    Prompts and answers are tokenised apart, so that no token spans a border; special tokens come once, from here.
    """

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self.tokenizer = tokenizer
        self.max_length = max_length
        bare, full = self._encode(["x"])[0], tokenizer("x")["input_ids"]
        at = next((i for i in range(len(full)) if full[i : i + len(bare)] == bare), 0)
        self._before = list(full[:at])
        """Special tokens that the tokenizer puts before a text; it may put some behind it too, which are not wanted."""
        self._anchor: list[int] = []
        if tokenizer.convert_ids_to_tokens(self._encode(["a"])[0][:1])[0].startswith("▁"):
            # SentencePiece puts a space before every text. What follows another part is not the beginning of one, so it
            # is tokenised behind a newline, whose tokens are then taken off.
            self._anchor = self._encode(["\n"])[0]
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        self._special = special | set(tokenizer.all_special_ids)
        if tokenizer.eos_token_id is None:
            raise TaskFailed(FailureKind.BASE_MODEL, "the base model's tokenizer has no end-of-sequence token")

    def rows(self, texts: Sequence[Text]) -> Iterator[TokenRow | None]:
        """Each text's tokens, cut at the maximum length; None where no supervised one is left."""
        for whole in self.whole(texts):
            row = self.cut(whole)
            yield row if any(row[1]) else None

    def cut(self, row: TokenRow) -> TokenRow:
        """A row's first tokens, as many as fit."""
        tokens, supervised = row
        return tokens[: self.max_length], supervised[: self.max_length]

    def whole(self, texts: Sequence[Text]) -> Iterator[TokenRow]:
        """Each text's tokens, however many."""
        openings = iter(self._encode([text.exchanges[0].prompt for text in texts]))
        later = [exchange.prompt for text in texts for exchange in text.exchanges[1:]]
        prompts = iter(self._continue(later))
        answers = iter(self._continue([exchange.answer for text in texts for exchange in text.exchanges]))
        for text in texts:
            tokens = list(self._before) if text.plain else []
            tokens += next(openings)
            supervised = [False] * len(tokens)
            for number, exchange in enumerate(text.exchanges):
                if number > 0:
                    tokens += next(prompts)
                    supervised += [False] * (len(tokens) - len(supervised))
                answer = next(answers)
                ends = text.plain or number == len(text.exchanges) - 1
                if ends and not (answer and answer[-1] in self._special):
                    answer = [*answer, self.tokenizer.eos_token_id]
                tokens += answer
                supervised += [exchange.supervised] * len(answer)
            supervised[0] = False  # nothing comes before the first token, so nothing can predict it
            yield tokens, supervised

    def _encode(self, texts: list[str]) -> list[list[int]]:
        encoded: list[list[int]] = self.tokenizer(
            texts, add_special_tokens=False, return_attention_mask=False, verbose=False
        )["input_ids"]
        return encoded

    def _continue(self, texts: list[str]) -> list[list[int]]:
        plain = self._encode(texts) if texts else []
        if not plain or not self._anchor:
            return plain
        size = len(self._anchor)
        anchored = self._encode([f"\n{text}" for text in texts])
        # A text that begins with a newline may join it with ours.
        return [a[size:] if a[:size] == self._anchor else p for a, p in zip(anchored, plain, strict=True)]


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
        form = template_of(source, template)
        key = _key(source, kind, form, max_length, base, Digests(folder / "digests.json"))
        found = self._kept.pop(key, None)
        if found is None:
            path = folder / f"tokens-{key}.npz"
            found = _load(path, kind)
            if found is None:
                found = _private(lambda: _tokenize(source, kind, form, max_length, tokenizer, report))
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
    source: DataSource, kind: TrainingKind, form: Form, max_length: int, base: Fingerprint, digests: Digests
) -> str:
    files: list[str] = []
    for part in (source, source.held_out_source):
        if part is None:
            files.append("")
            continue
        try:
            suffixes = part.path.suffixes[-2:] if part.path is not None else []
            files += [data_digest(part, digests.of), "".join(suffixes).lower()]
        except OSError as error:
            refuse(part, f"the file cannot be read ({error.strerror}); correct its path in agent.toml")
    columns = source.model_dump_json(exclude={"path", "held_out_path", "template", "preset"})
    own = form.model_dump_json() if isinstance(form, OwnTemplate) else form
    return sha256_of_parts([_FORMAT, kind, *files, columns, base.tokenizer, base.template, own, str(max_length)])


def _tokenize(
    source: DataSource, kind: TrainingKind, form: Form, max_length: int, tokenizer: Any, report: Reporter
) -> Prepared:
    check(form, tokenizer)
    report(Progress(phase=Phase.TOKENIZING))
    split = read_split(source, kind)
    tokenizing = Tokenizing(tokenizer, max_length)
    total, done, parts = len(split.train) + len(split.held_out), 0, []
    for part in (split.train, split.held_out):
        usable: list[TokenRow] = []
        for begin in range(0, len(part), _BATCH):
            some = part[begin : begin + _BATCH]
            for completions in tokenize_completions(some, form, tokenizing):
                usable += [] if completions.skip_reason else completions.rows
            done += len(some)
            report(Progress(phase=Phase.TOKENIZING, done=done, total=total))
        parts.append(_rows_of(kind, TokenRows.of(usable)))
    total += split.skipped.total()
    prepared = Prepared(parts[0], parts[1], dropped=total - sum(map(len, parts)))
    if prepared.dropped == total:
        why = "a completion that is empty, or two that are equal" if kind == "dpo" else "an empty completion"
        refuse(source, f"all {total} rows are too long or have {why}: max_length {max_length} leaves none any room")
    if len(prepared.train) == 0:
        held_out = len(prepared.held_out)
        refuse(source, f"no row is left to train on ({held_out} held out, {prepared.dropped} dropped)")
    return prepared


@dataclass(frozen=True)
class TokenizedRow:
    """The tokens of a row's sides, and of them what fits into the maximum length. skip_reason: why the row is
    skipped; empty if it is used."""

    whole: list[TokenRow]
    rows: list[TokenRow]
    skip_reason: str


def tokenize_completions(rows: Sequence[Row | Pair], form: Form, tokenizing: Tokenizing) -> Iterator[TokenizedRow]:
    """Each row's sides. Raises TaskFailed (data) where the template refuses a row."""
    answered = [row for row in rows if not skip_reason(row)]
    tokens = tokenizing.whole(
        [render(side, form, tokenizing.tokenizer) for row in answered for side in row.completions]
    )
    for row in rows:
        reason = skip_reason(row)
        whole = [next(tokens) for _ in row.completions] if not reason else []
        cut = [tokenizing.cut(one) for one in whole]
        if not all(any(supervised) for _, supervised in cut):
            reason = f"no room for its completion in {tokenizing.max_length} tokens"
        elif len(cut) > 1 and cut[0] == cut[1]:
            reason = f"completions that are equal in their first {tokenizing.max_length} tokens"
        yield TokenizedRow(whole, cut, reason)


def _rows_of(kind: TrainingKind, rows: TokenRows) -> TokenRows | PairRows:
    return PairRows(rows) if kind == "dpo" else rows


def _save(path: Path, data: Prepared) -> None:
    arrays: dict[str, Any] = {"dropped": np.int64(data.dropped)}
    for part, found in (("train", data.train), ("held_out", data.held_out)):
        rows = found.completions if isinstance(found, PairRows) else found
        arrays |= {f"{part}_{name}": array for name, array in vars(rows).items() if name in _ARRAYS}
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as file:
        np.savez(file, **arrays)


def _load(path: Path, kind: TrainingKind) -> Prepared | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            train, held_out = (
                _rows_of(kind, TokenRows(*(file[f"{part}_{name}"] for name in _ARRAYS)))
                for part in ("train", "held_out")
            )
            return Prepared(train, held_out, dropped=int(file["dropped"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        log.warning("%s cannot be read; the data is tokenised again", path.name)
        return None
