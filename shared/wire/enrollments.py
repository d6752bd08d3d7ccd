"""Enrolment tokens, and the requests by which an agent gets its identity."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from shared.bounds import Line
from shared.campaign.spec import Labels, Name
from shared.signing.keys import PublicKey
from shared.wire.base import SHA256_PATTERN, Id, Reply, Request


class TokenCreate(Request):
    """Asks for a one-time enrolment token."""

    labels: Labels = {}
    """Labels of the agent that enrols with the token."""
    expires_in_s: Annotated[float, Field(gt=0, le=366 * 86400)] = 7 * 86400.0
    note: Annotated[Line, Field(max_length=200)] = ""


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
    """A new token with its secret, which is shown only this once."""

    token: str


SecretHash = Annotated[str, Field(pattern=SHA256_PATTERN)]
"""SHA-256 of a secret that the agent made. No reply carries the secret, so a lost reply cannot lose it."""


class EnrollmentRequest(Request):
    """An agent's first request. Repeating it after a lost reply gives the same reply."""

    token: Annotated[Line, Field(min_length=8, max_length=200)]
    name: Name
    version: Annotated[Line, Field(max_length=40)]
    secret_hash: SecretHash


class EnrollmentReply(Reply):
    """The agent's identity."""

    agent_id: Id
    name: Name
    labels: dict[str, str]
    signing_key: PublicKey
    """What the coordinator signs by. The agent keeps it, and believes no other that this one has not signed."""


class SecretRequest(Request):
    """Replaces the agent's secret. Repeating the request with the new secret changes nothing."""

    secret_hash: SecretHash


class SecretReply(Reply):
    """Confirms that the new secret is valid and the old one is void."""

    agent_id: str
