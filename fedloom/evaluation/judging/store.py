"""A judge's replies on the disk, each a line that is there as soon as it came."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from fedloom.evaluation.judging.endpoint import Endpoint
from fedloom.evaluation.judging.reply import Judgement
from shared.digest import sha256_hex
from shared.system.private_files import private_folder, private_opener


@dataclass(frozen=True)
class _Entry:
    """What is read of a line."""

    request: str
    judgement: Judgement


_ENTRY = TypeAdapter(_Entry)


class JudgementStore:
    """The replies of one judge, in one file of mode 0600: another model or URL has another file."""

    def __init__(self, folder: Path, endpoint: Endpoint) -> None:
        """Read the replies of earlier runs. Raises OSError."""
        private_folder(folder)
        self._path = folder / f"{sha256_hex(json.dumps([endpoint.url, endpoint.model]).encode())[:32]}.jsonl"
        self._judge = str(endpoint)
        self._found = dict(self._read())

    def _read(self) -> Iterator[tuple[str, Judgement]]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                entry = _ENTRY.validate_python(json.loads(line))
            except (ValueError, RecursionError):
                continue  # the last line of a run that was killed, a reply that nobody could use, or an edited line
            yield entry.request, entry.judgement

    def find(self, digest: str) -> Judgement | None:
        """The reply to a request; None if there is none yet."""
        return self._found.get(digest)

    def add(self, digest: str, about: Mapping[str, Any], raw: str, judgement: Judgement) -> None:
        """Keep a reply. Raises OSError.

        Args:
            digest: of the request.
            about: task, question and turn, for people.
            raw: the body, as it came.
            judgement: what it says.
        """
        self._append({"request": digest, **about, "judgement": asdict(judgement), "raw": raw})
        self._found[digest] = judgement

    def add_unusable(self, digest: str, about: Mapping[str, Any], raw: str, problem: str) -> None:
        """Keep a reply that nobody could use. The request is asked again. Raises OSError."""
        self._append({"request": digest, **about, "problem": problem, "raw": raw})

    def _append(self, entry: Mapping[str, Any]) -> None:
        line = json.dumps({"judge": self._judge, **entry}, ensure_ascii=False)
        with open(self._path, "ab", opener=private_opener) as file:
            # a line of a run that was killed stays alone; a server's lone surrogate must not stop a run
            file.write(f"\n{line}".encode(errors="backslashreplace"))
