"""Enrolment tokens, and the requests by which an agent gets its identity."""

from datetime import datetime
from typing import Annotated

from pydantic import Field

from shared.campaign.spec import Label, Name
from shared.wire.base import Reply, Request


class TokenCreate(Request):
    """Asks for a one-time enrolment token."""

    labels: dict[Label, str] = {}
    """Labels of the agent that enrols with the token."""
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
    """A new token with its secret, which is shown only this once."""

    token: str


SecretHash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""SHA-256 of a secret that the agent made. No reply carries the secret, so a lost reply cannot lose it."""


class EnrollmentRequest(Request):
    """An agent's first request. Repeating it after a lost reply gives the same reply."""

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
    """Replaces the agent's secret. Repeating the request with the new secret changes nothing."""

    secret_hash: SecretHash


class SecretReply(Reply):
    """Confirms that the new secret is valid and the old one is void."""

    agent_id: str
