"""A stored reply as a line of JSON: written, and read only if it is what was written."""

import json
import math
from dataclasses import asdict
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from fedloom.evaluation.asking.requests import Reply, Scored, Text
from shared.wire.base import Sha256


class _Line(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    request: Sha256


class _ScoredLine(_Line):
    kind: Literal["scored"]
    reply: Scored


class _TextLine(_Line):
    kind: Literal["text"]
    reply: Text


_LINE: TypeAdapter[_ScoredLine | _TextLine] = TypeAdapter(
    Annotated[_ScoredLine | _TextLine, Field(discriminator="kind")]
)


def line_of(digest: str, reply: Reply) -> str:
    """The line of a reply. digest: of the request."""
    entry = {"request": digest, "kind": type(reply).__name__.lower(), "reply": asdict(reply)}
    return json.dumps(entry, ensure_ascii=False)


def read_line(line: bytes) -> tuple[str, Reply]:
    """The digest of a request, and its reply. Raises ValueError if the line is none."""
    try:
        read = _LINE.validate_json(line, strict=True)
    except ValidationError as error:
        raise ValueError("no line of a reply") from error
    reply = read.reply
    if reply.n_tokens < 0 or reply.n_cut < 0:
        raise ValueError("a number of tokens is below 0")
    if isinstance(reply, Scored) and not reply.problem and math.isnan(reply.log_prob):
        raise ValueError("a score is no number, without a reason")
    return read.request, reply
