"""Replies on the disk: a model is asked once, and a run that was killed goes on where it stopped."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedloom.evaluation.asking.batches import batches
from fedloom.evaluation.asking.models import Model, ModelFacts
from fedloom.evaluation.asking.reply_lines import line_of, read_line
from fedloom.evaluation.asking.requests import Generate, Reply, Request, Scored, Text, digest_of
from shared.digest import sha256_hex
from shared.system.private_files import private_opener

REPLIES_FOLDER = "replies"
"""In the folder of results."""


class ReplyStore:
    """The replies of one model, in one file. Each is a line, added when it is there."""

    def __init__(self, folder: Path, facts: ModelFacts) -> None:
        """Read the replies of earlier runs. Raises OSError.

        Args:
            folder: of all models' replies.
            facts: what identifies the model: another base, adapter or quantisation has another file.
        """
        known = asdict(facts)
        del known["name"]
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"{sha256_hex(json.dumps(known, sort_keys=True).encode())[:32]}.jsonl"
        self._replies = dict(self._read())

    def _read(self) -> Iterator[tuple[str, Reply]]:
        try:
            lines = self._path.read_bytes().splitlines()
        except FileNotFoundError:
            return
        for line in lines:
            try:
                yield read_line(line)
            except ValueError:
                continue  # the last line of a run that was killed, or no reply: it is asked anew

    def find(self, digest: str, request: Request) -> Reply | None:
        """The reply to a request with this digest; None if there is none yet, or one to another kind of request."""
        reply = self._replies.get(digest)
        return reply if isinstance(reply, Text if isinstance(request, Generate) else Scored) else None

    def add(self, replies: Sequence[tuple[str, Reply]]) -> None:
        """Store replies. Raises OSError: then they are not known."""
        lines = [line_of(digest, reply) for digest, reply in replies]
        with open(self._path, "ab", opener=private_opener) as file:
            file.write("".join(f"\n{line}" for line in lines).encode())  # a line of a run that was killed stays alone
        self._replies.update(replies)


class StoredModel:
    """A model whose replies are stored, batch by batch: after a kill one is asked again, and no request with a reply.

    Args:
        model: what is asked.
        store: of its replies.
    """

    def __init__(self, model: Model, store: ReplyStore) -> None:
        self._model = model
        self._store = store
        self.facts = model.facts
        self.on_done: Callable[[int, int], None] = lambda _done, _total: None
        """Called with the number of requests that have a reply, and how many there are, whatever task asks."""

    def ask(self, requests: Sequence[Any]) -> list[Any]:
        """Ask what has no reply yet, and store each. Raises what the model raises, and OSError."""
        digests = [digest_of(request) for request in requests]
        new: dict[str, Request] = {
            digest: request
            for digest, request in zip(digests, requests, strict=True)
            if self._store.find(digest, request) is None
        }
        asked = list(new)
        n_done = len(requests) - len(asked)
        self.on_done(n_done, len(requests))
        for places in batches(list(new.values())):
            batch = [asked[i] for i in places]
            replies = self._model.ask([new[digest] for digest in batch])  # type: ignore[misc]
            self._store.add(list(zip(batch, replies, strict=True)))
            n_done += len(batch)
            self.on_done(n_done, len(requests))
        return [self._store.find(digest, request) for digest, request in zip(digests, requests, strict=True)]

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """As the model."""
        return self._model.count_tokens(texts)

    def chat_prompt(self, messages: Sequence[dict[str, str]]) -> str:
        """As the model."""
        return self._model.chat_prompt(messages)


def stored(models: Sequence[Model], folder: Path) -> list[StoredModel]:
    """Models whose replies are stored. folder: of the results. Raises OSError."""
    return [StoredModel(model, ReplyStore(folder / REPLIES_FOLDER, model.facts)) for model in models]
