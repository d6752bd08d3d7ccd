"""Tokenises an owner's rows with their places: what cannot be trained on is an error, what is left out a notice."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import combinations
from typing import Any

from agent.data import reading
from agent.data.checks.notices import Occurrences
from agent.data.rows import LocatedRow
from agent.data.source import DataSource
from agent.errors import TaskFailed
from agent.train.base.limits import InputLimits
from agent.train.data.rendering.omissions import OmissionNotices, wrong_completion
from agent.train.data.rendering.templates import AnyTemplate, Renderer
from agent.train.data.rendering.texts import Text
from agent.train.data.round_trip import Decoded, RoundTrip
from agent.train.data.tokenizing import TextTokenizer
from agent.train.data.tokens import TokenRow

BATCH = 256
"""Rows that are best tokenised together."""
_CLOCK = "the template reads the clock: all owners train with the day on which the campaign was created"


_Encoded = list[tuple[TokenRow, Decoded]]


@dataclass(frozen=True)
class TokenizedRow:
    """The tokens of a row's completions, each with its prompt.

    Args:
        located: the row.
        full: all tokens; empty if the row has an error, an empty completion or two equal ones.
        truncated: the tokens within the maximum length.
        skip_reason: why the row is skipped; empty if it is used.
        error: why it cannot be trained on, which continues its place; empty if it can.
    """

    located: LocatedRow
    full: tuple[TokenRow, ...] = ()
    truncated: tuple[TokenRow, ...] = ()
    skip_reason: str = ""
    error: str = ""


class RowTokenizer:
    """Tokenises the rows of one data set. ``reads_clock``: whether the tokens depend on the date."""

    def __init__(
        self,
        source: DataSource,
        template: AnyTemplate,
        max_length: int,
        tokenizer: Any,
        limits: InputLimits,
        day: date,
        *,
        which_day: str = "",
    ) -> None:
        """Raises TaskFailed: data if the template cannot be used at all, base-model if the tokenizer cannot.

        Args:
            source: the owner's settings for the data.
            template: the campaign's template, or the owner's own.
            max_length: in tokens; longer rows are truncated.
            tokenizer: the base model's.
            limits: what the base model takes.
            day: the date that a template which reads the clock sees.
            which_day: says which that is, if it is not the campaign's.
        """
        self._renderer = Renderer(template, tokenizer, day)
        self.reads_clock = self._renderer.reads_clock
        self._tokenizer = TextTokenizer(tokenizer, max_length)
        self._round_trip = RoundTrip(tokenizer, self._tokenizer.encoder, self._tokenizer.control)
        self._limits = limits
        self._may_drop = source.template_may_drop
        self._notices = Occurrences()
        self._omissions = OmissionNotices(self._notices)
        if self.reads_clock:
            self._notices.add(source.label, "", f"{_CLOCK}{which_day}")

    @property
    def max_length(self) -> int:
        """The maximum length of a row, in tokens."""
        return self._tokenizer.max_length

    def notices(self) -> Occurrences:
        """What of the usable rows is not read, or not supervised. To be called once, after the last row."""
        self._omissions.finish()
        return self._notices

    def tokenize(self, rows: Sequence[LocatedRow]) -> Iterator[TokenizedRow]:
        """Tokenise each row's completions. All rows are tokenised together, so let them be few."""
        rendered = [self._rendered(located) for located in rows]
        tokens = iter(self._encoded([texts for texts in rendered if isinstance(texts, tuple)]))
        for located, texts in zip(rows, rendered, strict=True):
            yield texts if isinstance(texts, TokenizedRow) else self._checked(located, texts, next(tokens))

    def _rendered(self, located: LocatedRow) -> tuple[Text, ...] | TokenizedRow:
        """The text of each completion, or why there is none."""
        if reason := reading.skip_reason(located.row):
            return TokenizedRow(located, skip_reason=reason)
        try:
            texts = tuple(self._renderer.render(completion) for completion in located.row.completions)
        except TaskFailed as error:
            return TokenizedRow(located, error=f": {error}")
        if wrong := wrong_completion(texts, may_drop=self._may_drop):
            return TokenizedRow(located, error=wrong)
        if any(text.omissions.whole_completion for text in texts):
            return TokenizedRow(located, skip_reason="a completion that the template drops")
        return texts

    def _encoded(self, groups: Sequence[tuple[Text, ...]]) -> list[_Encoded | str]:
        """The tokens of each group's texts, or an error message in their place: a few texts cannot spoil the others."""
        if not groups:
            return []
        try:
            texts = [text for texts in groups for text in texts]
            encoded = list(self._tokenizer.encode(texts))
            decoded = self._round_trip.decode(texts, [each.answers for each in encoded])
            found = iter(zip([each.row for each in encoded], decoded, strict=True))
            return [[next(found) for _ in texts] for texts in groups]
        except MemoryError:
            raise
        except Exception as error:  # noqa: BLE001 - of the tokenizer; its text may quote a row
            if len(groups) == 1:
                return [f": the tokenizer refuses a row ({type(error).__name__})"]
            half = len(groups) // 2
            return [*self._encoded(groups[:half]), *self._encoded(groups[half:])]

    def _checked(self, located: LocatedRow, texts: tuple[Text, ...], found: _Encoded | str) -> TokenizedRow:
        if isinstance(found, str):
            return TokenizedRow(located, error=found)
        tokens = [row for row, _ in found]
        truncated = tuple(self._tokenizer.truncate(row) for row in tokens)
        max_length = self.max_length
        skip_reason = ""
        if not all(any(supervised) for _, supervised in truncated):
            skip_reason = f"no room for its completion in {max_length} tokens"
        elif any(
            decoded.leaves_nothing(text, single.completion)
            for text, (_, decoded), single in zip(texts, found, located.row.completions, strict=True)
        ):
            skip_reason = "a completion of which the tokenizer leaves nothing"
        elif any(first == second for first, second in combinations(truncated, 2)):
            skip_reason = f"completions that are equal in their first {max_length} tokens"
        if not skip_reason:
            for row, _ in truncated:
                if error := self._limits.exceeded_by(row):
                    return TokenizedRow(located, error=error)
            self._note(located, texts, [decoded for _, decoded in found])
        return TokenizedRow(located, tuple(tokens), truncated, skip_reason)

    def _note(self, located: LocatedRow, texts: tuple[Text, ...], decoded: Sequence[Decoded]) -> None:
        self._omissions.add(located, texts)
        changes = {("a completion", each.completion) for each in decoded if each.completion}
        changes |= {("an earlier reply", how) for each in decoded for how in each.replies}
        for what, how in sorted(changes):
            self._notices.add(located.label, located.place, f" has {what} that the tokenizer changes: {how}")
        if (token := self._tokenizer.control.first_in(located.row)) is not None:
            message = " has a special token of the tokenizer in its text, which acts as a control token"
            self._notices.add(located.label, located.place, message, f": {token!r}", apart=True)
