"""Enrolment tokens, and how an agent gets its identity."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from shared.campaign import Label, Name
from shared.wire.base import Reply, Request


class TokenCreate(Request):
    """Asks for a one-time enrolment token. Agents that enrol with it carry its labels."""

    labels: dict[Label, str] = {}
    expires_in_s: Annotated[float, Field(gt=0, le=366 * 86400)] = 7 * 86400.0
    note: Annotated[str, Field(max_length=200)] = ""


class TokenView(Reply):
    """An enrolment token without its secret."""

    id: str
    labels: dict[str, str]
    note: str
    created_at: datetime
    expires_at: datetime
    used_at: datetime | None = None
    used_by: str | None = None


class TokenCreated(TokenView):
    """A new token; the only time that its secret is shown."""

    token: str


class EnrollmentRequest(Request):
    """An agent's first call."""

    token: Annotated[str, Field(min_length=8, max_length=200)]
    name: Name
    version: Annotated[str, Field(max_length=40)]


class EnrollmentReply(Reply):
    """The agent's identity. The secret is shown once, and kept as a hash."""

    agent_id: str
    name: str
    labels: dict[str, str]
    secret: str


class SecretReply(Reply):
    """A new secret after rotation; the old one is void."""

    agent_id: str
    secret: str
