"""The owner's data, read, split and tokenised once, then cached in memory and on disk."""

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from agent.data.digest_cache import DigestCache
from agent.data.files.records import refuse
from agent.data.files.tables import data_digest
from agent.data.local_names import public
from agent.data.own_template import OwnTemplate, template_of
from agent.data.reading import read_split
from agent.data.source import DataSource
from agent.errors import TaskFailed
from agent.train.base.limits import NO_LIMITS, InputLimits
from agent.train.data.rendering.templates import AnyTemplate
from agent.train.data.row_tokenizer import BATCH, RowTokenizer
from agent.train.data.token_files import load_tokens, save_tokens
from agent.train.data.tokens import Samples, TokenizedData, TokenRow
from agent.train.progress import Reporter
from shared.campaign.spec import Template
from shared.digest import sha256_of_parts
from shared.kinds import Kind
from shared.wire.tasks.leases import FailureKind, Phase, Progress
from shared.wire.tasks.results import Fingerprint

_FORMAT = "6"  # raise it if the same inputs give other tokens
_MAX_IN_MEMORY = 4  # data sets


class DataCache:
    """Tokenised data, from memory, from disk, or tokenised now."""

    def __init__(self) -> None:
        self._in_memory: dict[str, TokenizedData] = {}

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
        kind: Kind,
        limits: InputLimits = NO_LIMITS,
        day: date | None = None,
    ) -> TokenizedData:
        """Return the tokenised data of *source*. Raises TaskFailed (data), whose message names the cause and its place.

        Args:
            source: the owner's data.
            template: the campaign's template; the source's own template replaces it.
            max_length: in tokens; longer rows are truncated.
            tokenizer: the base model's.
            base: the base model's fingerprint, part of the cache key.
            folder: where the cache files are stored.
            report: receives the progress of tokenising.
            kind: the kind of training, which decides what a row has.
            limits: what the base model takes of tokens and positions; by default all.
            day: the date that a template which reads the clock sees; None means today.
        """
        used_template = template_of(source, template)
        seen_day = day or datetime.now(UTC).date()
        rows = RowTokenizer(source, used_template, max_length, tokenizer, limits, seen_day)
        key = _key(
            source,
            kind,
            used_template,
            [base.tokenizer, base.template, str(max_length), str(seen_day) if rows.reads_clock else ""],
            DigestCache(folder / "digests.json"),
        )
        data = self._in_memory.pop(key, None)
        path = folder / f"tokens-{key}.npz"
        if data is None:
            data = load_tokens(path, kind)
        # Models can share a tokenizer, so the tokens may be those of a larger one: tokenising again names the row.
        if data is None or not data.fits(limits):
            data = _hide_errors(lambda: _tokenize(source, kind, rows, report))
            save_tokens(path, data)
        self._in_memory[key] = data  # the last entry is the latest used
        for oldest in list(self._in_memory)[:-_MAX_IN_MEMORY]:
            del self._in_memory[oldest]
        return data


def _hide_errors(tokenize: Callable[[], TokenizedData]) -> TokenizedData:
    """Run *tokenize*. Of an unexpected error only the type is reported, because its text may quote a row."""
    try:
        return tokenize()
    except (TaskFailed, MemoryError):
        raise
    except Exception as error:
        message = f"preparing the data failed with {type(error).__name__}; see the agent's log of this task"
        raise TaskFailed(FailureKind.CRASH, message) from error


def _key(
    source: DataSource,
    kind: Kind,
    template: AnyTemplate,
    others: Sequence[str],
    digests: DigestCache,
) -> str:
    """The digest of all that decides the tokens. others: what does so beside the data, the kind and the template."""
    files: list[str] = []
    for part in (source, source.held_out_source):
        if part is None:
            files.append("")
            continue
        try:
            suffixes = part.path.suffixes[-2:] if part.path is not None else []
            files += [data_digest(part, digests.sha256), "".join(suffixes).lower()]
        except OSError as error:
            refuse(part, f"the file cannot be read ({error.strerror}); correct its path in agent.toml")
    columns = source.model_dump_json(exclude={"path", "held_out_path", "template", "preset"})
    template_text = template.model_dump_json() if isinstance(template, OwnTemplate) else template
    return sha256_of_parts(
        [_FORMAT, kind.name, *kind.completions, *kind.labels, *files, columns, template_text, *others]
    )


def _tokenize(source: DataSource, kind: Kind, tokenizer: RowTokenizer, report: Reporter) -> TokenizedData:
    report(Progress(phase=Phase.TOKENIZING))
    split = read_split(source, kind)
    total, done, parts = len(split.train) + len(split.held_out), 0, []
    skipped = Counter(split.skipped)
    for rows in (split.train, split.held_out):
        usable: list[TokenRow] = []
        labels: list[tuple[float, ...]] = []
        for begin in range(0, len(rows), BATCH):
            batch = rows[begin : begin + BATCH]
            for row in tokenizer.tokenize(batch):
                if row.error:
                    where = row.located.where
                    raise TaskFailed(FailureKind.DATA, f"{public(where)}{row.error}", f"{where}{row.error}")
                if row.skip_reason:
                    skipped[row.skip_reason] += 1
                else:
                    usable += row.truncated
                    labels.append(row.located.row.labels)
            done += len(batch)
            report(Progress(phase=Phase.TOKENIZING, done=done, total=total))
        parts.append(Samples.of(usable, labels, kind))
    notices = (*split.notices.public, *tokenizer.notices().public)
    data = TokenizedData(parts[0], parts[1], skipped.total(), notices)
    if len(data.train) == 0:
        reasons = ", ".join(f"{reason} ({n:,})" for reason, n in skipped.most_common())
        counted = "1 row is" if data.dropped == 1 else f"{data.dropped:,} rows are"
        message = f"{counted} skipped: {reasons}" if reasons else "no row is skipped"
        if len(data.held_out) == 0:
            refuse(source, f"no row can be used: {message}; `fedloom agent check-data` shows the reasons")
        refuse(source, f"no row is left to train on: {len(data.held_out):,} are held out, {message}")
    return data
