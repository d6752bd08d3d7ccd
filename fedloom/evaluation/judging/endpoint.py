"""Where a judge is: an OpenAI-compatible server and a model there. Its key comes from the environment alone."""

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby
from urllib.parse import urlsplit

import httpx

from fedloom.errors import EvaluationError
from fedloom.unread_variables import misspelt
from shared.network.urls import is_confidential, is_this_machine
from shared.text.unsafe import one_line

KEY_VARIABLE = "FEDLOOM_JUDGE_KEY"
_KEY = re.compile(r"[!-~]+")
_LONGEST_NAME = 200
_MOST_BACKSLASHES = 8


@dataclass(frozen=True)
class Endpoint:
    """A judge. Endpoints are equal if URL and model are.

    Args:
        url: what ``/chat/completions`` follows, such as ``https://api.openai.com/v1``.
        model: its name there.
        key: sent as a bearer token; empty for none. It is in no text that this room makes.
    """

    url: str
    model: str
    key: str = field(default="", repr=False, compare=False)

    @property
    def host(self) -> str:
        """The host, with its port if the URL has one."""
        return urlsplit(self.url).netloc

    @property
    def is_readable_on_the_way(self) -> bool:
        """Whether others can read what is sent: plain http:// to another machine."""
        return not is_confidential(self.url)

    @property
    def is_on_this_machine(self) -> bool:
        """Whether nothing leaves this machine for it."""
        return is_this_machine(urlsplit(self.url).hostname or "")

    def __str__(self) -> str:
        return f"{self.model} at {self.host}"

    def without_key(self, text: str) -> str:
        """A text of the server's, in which it may have repeated the key."""
        return self._key_in_text.sub("[key]", text) if self.key else text

    @cached_property
    def _key_in_text(self) -> re.Pattern[str]:
        """The key with any of its characters escaped, as writers of JSON do: some escape ``/`` and ``+``, as in
        ``\\/`` and ``\\u002B``, and JSON within JSON has more backslashes.

        A character is matched in one way (``?>``): a server that knows the key could otherwise keep the search busy.
        """
        some = rf"\\{{1,{_MOST_BACKSLASHES}}}"
        parts = []
        for each, run in groupby(self.key):
            n, escaped = len(list(run)), f"{some}(?i:u{ord(each):04x})"
            if each == "\\":
                parts.append(rf"(?:(?:{escaped}){{{n}}}|\\{{{n},}})")
            else:
                parts.append(rf"(?>{escaped}|\\{{0,{_MOST_BACKSLASHES}}}+{re.escape(each)}){{{n}}}")
        return re.compile("".join(parts))


def endpoint_of(url: str | None, model: str | None) -> Endpoint | None:
    """The judge that a person named; None if none is. The key is that of ``FEDLOOM_JUDGE_KEY``.

    Raises EvaluationError if a part is missing or cannot be used, and where the key would be sent unencrypted.
    """
    if url is None and model is None:
        return None
    if not url or not model:
        raise EvaluationError("a judge needs both: --judge-url and --judge-model")
    if one_line(model, _LONGEST_NAME) != model:
        raise EvaluationError(f"--judge-model {one_line(model, 60)}: a name is one line of {_LONGEST_NAME} at most")
    url = url.strip().rstrip("/")
    try:
        is_private, parts = is_confidential(url), urlsplit(url)
        if parts.query or parts.fragment:
            raise ValueError("it has a ? or #, and a secret there would be stored; the key is sent in a header")
        if not (url.isascii() and url.isprintable()) or " " in url:
            raise ValueError("it has a space or another character that no URL has")
        httpx.URL(url)
    except (ValueError, httpx.InvalidURL) as error:
        shown = f"{urlsplit(url).scheme}://…" if "://" in url else "the text"  # the rest may hold a password
        raise EvaluationError(f"--judge-url: {shown} is not a URL of a judge: {error}") from None
    key = os.environ.get(KEY_VARIABLE, "").strip()
    if key and not _KEY.fullmatch(key):
        raise EvaluationError(f"{KEY_VARIABLE} has a space or another character that no key has; copy it again")
    if key and not is_private:
        raise EvaluationError(
            f"--judge-url: {KEY_VARIABLE} would be sent to {parts.netloc} unencrypted; use https://, or unset the key"
        )
    return Endpoint(url, model, key)


def key_hint(endpoint: Endpoint) -> str:
    """What to do where the judge does not accept the key."""
    return f"is {KEY_VARIABLE} right?" if endpoint.key else f"set {KEY_VARIABLE}{misspelt(KEY_VARIABLE)}"
