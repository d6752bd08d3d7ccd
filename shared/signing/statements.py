"""What is signed of a campaign: its specification, each adapter, who takes part in each round, and each new history.

The statements of a campaign are a chain: each has a number, and names the digest of the one before. So the latest
statement stands for all before it, and two owners who were told different things never come to the same digest again.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter

from shared.bounds import Bounded, Count
from shared.campaign.spec import Name
from shared.digest import sha256_hex
from shared.wire.base import Id, Sha256

FIRST = "0" * 64
"""What the first statement of a campaign names as the digest of the one before."""


class _Statement(Bounded):
    model_config = ConfigDict(extra="forbid")

    campaign_id: Id
    number: Count
    """0, 1, 2 and so on. After a restored backup some come again, from a statement of a later history on."""
    previous: Sha256
    """Digest of the statement before."""
    history: Count
    """Number of the campaign's history. It rises with each rollback and each restored backup."""


class SpecificationSigned(_Statement):
    """The specification of the campaign."""

    kind: Literal["specification"] = "specification"
    spec_sha256: Sha256


class AdapterSigned(_Statement):
    """A global adapter."""

    kind: Literal["adapter"] = "adapter"
    adapter: Count
    """Its number."""
    sha256: Sha256
    broadcast: Sha256 | None = None
    """Digest of the algorithm's broadcast beside it."""


class RosterSigned(_Statement):
    """The clients of a round. When more are drawn, because some failed, a further statement has all of them."""

    kind: Literal["roster"] = "roster"
    round: Annotated[Count, Field(ge=1)]
    agents: list[Name]
    """Their names, in alphabetical order."""


class HistorySigned(_Statement):
    """A new history: the campaign was rolled back, or its coordinator restored from a backup."""

    kind: Literal["history"] = "history"
    adapter: Count | None
    """The newest adapter that stays; null if there is none yet."""


Statement = Annotated[SpecificationSigned | AdapterSigned | RosterSigned | HistorySigned, Field(discriminator="kind")]
_STATEMENT: TypeAdapter[Statement] = TypeAdapter(Statement)


def text_of(statement: Statement) -> str:
    """The text that is signed. It is passed on as it is, so no reader has to write it again."""
    return statement.model_dump_json()


def statement_of(text: str) -> Statement:
    """Parse a signed text. Raises ValidationError."""
    return _STATEMENT.validate_json(text)


def digest_of(text: str) -> str:
    """The digest by which the next statement names a text."""
    return sha256_hex(text.encode())
