"""Follows the chain of statements of each campaign: fetches what is new, checks it, and stores it."""

import asyncio
import logging
from collections.abc import AsyncIterator

from agent.network.api import CoordinatorApi
from agent.record.statements import StatementRecord
from agent.signing.checks import check_signed, not_signed
from agent.signing.keys import PinnedKey
from agent.signing.standing import Contradicted, Standing
from shared.signing.keys import PublicKey, is_signed
from shared.signing.statements import HistorySigned
from shared.wire.statements import SignedStatement, SignedStatements
from shared.wire.tasks.assignments import Assignment
from shared.wire.tasks.leases import MAX_FOLLOWED

log = logging.getLogger(__name__)


class SignedCampaigns:
    """What the coordinator signed of the campaigns of one agent.

    Args:
        api: of the coordinator.
        agent: name of the agent.
        record: where statements are stored.
    """

    def __init__(self, api: CoordinatorApi, agent: str, record: StatementRecord) -> None:
        self._api = api
        self._agent = agent
        self._record = record
        self._standings: dict[str, Standing] = {}
        self.key = PinnedKey(record)

    def numbers(self) -> dict[str, int]:
        """Number of the newest known statement of each campaign that was followed of late, for a request for work."""
        latest = list(self._standings.items())[-MAX_FOLLOWED:]
        return {campaign_id: standing.number for campaign_id, standing in latest if standing.number >= 0}

    async def check(self, task: Assignment, sent: SignedStatements | None = None) -> None:
        """Check an assignment against what was signed. Raises TaskFailed (not-signed) and what ``catch_up`` raises.

        sent: the statements that came with it.
        """
        standing = await self.catch_up(task.campaign_id, sent)
        check_signed(task, standing, self._agent)

    async def check_key(self) -> None:
        """Check that the coordinator signs by the key that this agent trusts, or by one that it leads to.

        Raises TaskFailed (not-signed), CoordinatorRefused and CoordinatorUnreachable.
        """
        offered = await self._follow_key()
        if offered != self.key.current:
            raise not_signed(f"the coordinator signs by another key, {offered[:12]}…: {self._trusted()}", "it")

    async def catch_up(self, campaign_id: str, sent: SignedStatements | None = None) -> Standing:
        """Take in what was signed of a campaign since the last time.

        Raises TaskFailed (not-signed), CoordinatorRefused and CoordinatorUnreachable.

        Args:
            campaign_id: the campaign.
            sent: statements from the newest known one on, which need not be asked for; others are ignored.
        """
        standing = await asyncio.to_thread(self.known, campaign_id)
        first = max(0, standing.number)
        new: list[SignedStatement] = []
        is_retold = standing.number >= 0
        try:
            async for statement in self._fetched(campaign_id, first, _following(standing, sent)):
                if is_retold:  # the newest one that is known comes first, word for word
                    if statement.text != standing.text:
                        break
                    await self._check_signature(standing.number, statement)  # the key may be a later one by now
                    is_retold = False
                    continue
                await self._take_in(standing, statement)
                new.append(statement)
        finally:
            if new:  # those before one that is refused were checked
                begins = standing.number - len(new) + 1
                await asyncio.to_thread(self._record.add, campaign_id, begins, new)
        return await self._told_anew(campaign_id, standing) if is_retold else standing

    def known(self, campaign_id: str) -> Standing:
        """The signed statements of a campaign that this agent has received. Raises TaskFailed (not-signed)."""
        standing = self._standings.pop(campaign_id, None)
        if standing is None:
            try:
                standing = Standing.of(campaign_id, self._record.of_campaign(campaign_id))
            except Contradicted as error:
                raise not_signed(f"the statements that this agent stored are not one chain: {error}") from error
        self._standings[campaign_id] = standing  # as the latest
        return standing

    async def _told_anew(self, campaign_id: str, known: Standing) -> Standing:
        """Take in a chain that differs from the known one. Raises TaskFailed unless a later history begins there."""
        before = await asyncio.to_thread(self._record.of_campaign, campaign_id)
        standing = Standing(campaign_id)
        new: list[SignedStatement] = []
        async for statement in self._fetched(campaign_id, 0):
            number = standing.number + 1
            is_same = not new and number < len(before) and statement.text == before[number]
            added = await self._take_in(standing, statement)
            if is_same:
                continue
            if not new and not (isinstance(added, HistorySigned) and added.history > known.history):
                reason = f"statement {number} of this campaign is not the one that was signed before"
                raise await self._contradicted(campaign_id, reason, statement)
            new.append(statement)
        if not new:
            raise not_signed(f"statement {standing.number + 1} of this campaign is gone, which was signed before")
        begins = standing.number - len(new) + 1
        await asyncio.to_thread(self._record.add, campaign_id, begins, new)
        self._standings[campaign_id] = standing
        log.warning("the coordinator was restored from a backup: %s", _replaced(begins, len(before)))
        return standing

    async def _fetched(
        self, campaign_id: str, since: int, sent: SignedStatements | None = None
    ) -> AsyncIterator[SignedStatement]:
        """The statements from a number on. sent: the first page of them, if it is here already."""
        has_more, page = True, sent
        while has_more:
            page = page or await self._api.statements(campaign_id, since)
            for statement in page.statements:
                yield statement
            since += len(page.statements)
            has_more, page = page.has_more and bool(page.statements), None

    async def _take_in(self, standing: Standing, statement: SignedStatement) -> object:
        """Check a statement's signature and place. Returns what it says. Raises TaskFailed (not-signed)."""
        await self._check_signature(standing.number + 1, statement)
        try:
            return standing.add(statement.text)
        except Contradicted as error:
            reason = f"statement {standing.number + 1} of this campaign contradicts what was signed before: {error}"
            raise await self._contradicted(standing.campaign_id, reason, statement) from error

    async def _contradicted(self, campaign_id: str, reason: str, statement: SignedStatement) -> Exception:
        await asyncio.to_thread(self._record.contradict, campaign_id, reason, statement)
        return not_signed(reason)

    async def _check_signature(self, number: int, statement: SignedStatement) -> None:
        if not statement.signature:
            raise not_signed(f"statement {number} of this campaign is not signed")
        if not is_signed(statement.text, statement.signature, statement.key):
            raise not_signed(f"the signature of statement {number} of this campaign is not of the key that it names")
        if statement.key == self.key.current:
            return
        if not statement.key == await self._follow_key() == self.key.current:
            signed = f"statement {number} of this campaign is signed by another key, {statement.key[:12]}…"
            raise not_signed(f"{signed}: {self._trusted()}")

    async def _follow_key(self) -> PublicKey:
        """Follow to the key that the coordinator signs by now, if signatures lead there. Returns that key."""
        before, keys = self.key.current, await self._api.signing_keys()
        await asyncio.to_thread(self.key.follow, keys)
        if self.key.current != before:
            log.warning("the coordinator signs by a new key, %s…, which its old one signed", self.key.current[:12])
        return keys.current

    def _trusted(self) -> str:
        return f"this agent trusts {self.key.current[:12]}…, which has not signed that one"


def _following(standing: Standing, sent: SignedStatements | None) -> SignedStatements | None:
    """The statements that were sent if they begin with the newest known one; None otherwise."""
    is_next = sent is not None and sent.statements and sent.statements[0].text == standing.text
    return sent if is_next else None


def _replaced(begins: int, n_before: int) -> str:
    return f"{n_before - begins} of its statements, from number {begins} on, hold no more"
