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


SecretHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a secret that its owner made: the secret itself is in no reply, so none is lost with one."""


class EnrollmentRequest(Request):
    """An agent's first call. The same one again, after a lost reply, answers the same."""

    token: Annotated[str, Field(min_length=8, max_length=200)]
    name: Name
    version: Annotated[str, Field(max_length=40)]
    secret_hash: SecretHash


class EnrollmentReply(Reply):
    """The agent's identity."""

    agent_id: str
    name: str
    labels: dict[str, str]


class SecretRequest(Request):
    """Asks for another secret. The same again, with the new one, changes nothing."""

    secret_hash: SecretHash


class SecretReply(Reply):
    """The new secret is valid, the old one void."""

    agent_id: str
