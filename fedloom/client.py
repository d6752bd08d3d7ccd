"""The coordinator's client: every call of the operator's API, typed."""

import os
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel

from fedloom import verifications
from fedloom.adapters.download import download_blob
from fedloom.adapters.facts import AdapterFacts
from fedloom.adapters.folder import write_adapter_folder
from fedloom.adapters.protection import Protection
from fedloom.errors import BadEnvironment, InvalidOption, NoSuchAdapter, Refused, Unreachable, WaitTimeout, is_outage
from fedloom.event_stream import Feed, follow_events, past_events
from fedloom.filters import label_filter, time_filter
from fedloom.transport import OUTAGE_S, Transport, path_of
from fedloom.verifications import OnProgress
from shared.campaign.file import read_campaign_file
from shared.campaign.spec import CampaignSpec
from shared.credentials import read_secret
from shared.events import EventType
from shared.states import AgentState, CampaignState, RoundState, TaskKind, TaskState, TokenState, VerificationState
from shared.wire.adapters import AdapterView
from shared.wire.agents import AgentView
from shared.wire.base import Page
from shared.wire.campaigns import (
    CampaignDetail,
    CampaignView,
    ClientView,
    MetricScope,
    MetricView,
    RoundView,
    TaskView,
)
from shared.wire.enrollments import TokenCreate, TokenCreated, TokenView
from shared.wire.events import EventView, FeedEventView
from shared.wire.gains import GainView
from shared.wire.service import AlgorithmView, Health, StorageView
from shared.wire.verification import VerificationDetail, VerificationView

DEFAULT_URL = "http://127.0.0.1:8470"
URL_VARIABLE = "FEDLOOM_URL"
KEY_VARIABLE = "FEDLOOM_KEY"
KEY_FILE_VARIABLE = "FEDLOOM_KEY_FILE"
LONGEST_POLL_S = 5.0
_HEADER = re.compile(r"[!-~]([ -~]*[!-~])?")

WhichAdapter = int | Literal["final", "best", "latest"]
M = TypeVar("M", bound=BaseModel)


class Client:
    """The client of one coordinator. Use it as a context manager, or close it.

    Every method raises ``errors.Unreachable`` and ``errors.Refused`` or a subclass. Requests that are safe to repeat
    are sent again when the network or the service fails. Listings are iterators that fetch one page at a time.
    """

    def __init__(
        self,
        url: str | None = None,
        key: str | None = None,
        *,
        key_file: Path | None = None,
        ca_file: Path | None = None,
        insecure: bool = False,
        timeout_s: float = 30.0,
    ) -> None:
        """Create a client. No request is sent yet.

        Args:
            url: The coordinator's address. By default FEDLOOM_URL, then http://127.0.0.1:8470.
            key: The operator's key. By default it is read from *key_file*.
            key_file: A file that holds the key. By default the key is FEDLOOM_KEY, or in the file FEDLOOM_KEY_FILE.
            ca_file: A CA to trust instead of the system's.
            insecure: Allow plain http:// to another host.
            timeout_s: Seconds to wait for a reply.

        Raises errors.InsecureUrl, errors.BadUrl, errors.MalformedKey, errors.BadEnvironment, and OSError if a file
        cannot be read.
        """
        url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        key = key or _key_from(key_file)
        self._transport = Transport(url, key, ca_file=ca_file, insecure=insecure, timeout_s=timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    @property
    def url(self) -> str:
        """The coordinator's address."""
        return self._transport.url

    # --- campaigns

    def create_campaign(
        self, spec: CampaignSpec | Mapping[str, Any] | Path, idempotency_key: str | None = None
    ) -> CampaignDetail:
        """Start a campaign from a CampaignSpec, its fields as a mapping, or a campaign file.

        A second call with the same idempotency key returns the campaign of the first. Raises CampaignFileError for an
        invalid file, pydantic.ValidationError for invalid fields, errors.Invalid, errors.Conflict, errors.InvalidOption
        for the key, and OSError.
        """
        if idempotency_key is not None and not _HEADER.fullmatch(idempotency_key):
            message = "idempotency key: only letters, digits and signs of ASCII, without spaces around it"
            raise InvalidOption(message)
        if isinstance(spec, Path):
            spec = read_campaign_file(spec)
        elif not isinstance(spec, CampaignSpec):
            spec = CampaignSpec.model_validate(spec)
        reply = self._transport.request(
            "POST",
            "/v1/campaigns",
            body=spec.model_dump(mode="json", exclude_unset=True),
            headers={"Idempotency-Key": idempotency_key or uuid.uuid4().hex},
            repeatable=True,
        )
        return self._transport.read(CampaignDetail, reply)

    def campaigns(
        self,
        name: str | None = None,
        *,
        state: CampaignState | None = None,
        kind: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[CampaignView]:
        """Campaigns, newest first: only those that all given filters match.

        Args:
            name: their name.
            state: their state.
            kind: their kind of training.
            since: created at this time or later; times have a zone.
            until: created before this time.
        """
        span = time_filter(since, until)
        return self._listing(CampaignView, "/v1/campaigns", name=name, state=state, kind=kind, **span)

    def campaign(self, campaign_id: str) -> CampaignDetail:
        """The campaign with this id, otherwise the newest of this name. Raises errors.NotFound.

        All other methods take an id or a name too.
        """
        return self._transport.fetch(CampaignDetail, _campaign_path(campaign_id))

    def pause(self, campaign_id: str) -> CampaignView:
        """Stop giving out work until ``resume``. Raises errors.IllegalMove and errors.NotFound."""
        return self._post(CampaignView, f"{_campaign_path(campaign_id)}/pause")

    def resume(self, campaign_id: str) -> CampaignView:
        """Continue a paused campaign. Raises errors.IllegalMove and errors.NotFound."""
        return self._post(CampaignView, f"{_campaign_path(campaign_id)}/resume")

    def cancel(self, campaign_id: str) -> CampaignView:
        """End a campaign for good; its adapters are kept. Raises errors.IllegalMove and errors.NotFound."""
        return self._post(CampaignView, f"{_campaign_path(campaign_id)}/cancel")

    def finish(self, campaign_id: str) -> CampaignView:
        """Finish a campaign early with the adapter that it has. ``wait`` returns once it is evaluated and completed.

        An open round counts if it has its minimum of updates, and is dropped otherwise. Raises errors.IllegalMove, also
        if no round has made an adapter yet, and errors.NotFound.
        """
        return self._post(CampaignView, f"{_campaign_path(campaign_id)}/finish")

    def rollback(self, campaign_id: str, round: int) -> CampaignView:  # noqa: A002
        """Take a campaign back to its state after a round and pause it there. Round 0 keeps only the initial adapter.

        Raises errors.IllegalMove, errors.Invalid if the round does not exist or nothing came after it, errors.NotKept
        if something of the round is no longer stored, and errors.NotFound.
        """
        return self._post(CampaignView, f"{_campaign_path(campaign_id)}/rollback", {"round": round})

    def verify(
        self, campaign_id: str, rounds: Sequence[int] | None = None, *, on_progress: OnProgress | None = None
    ) -> VerificationDetail:
        """Have the coordinator recompute closed rounds from their stored updates and compare digests; wait for the end.

        A coordinator that restarts is waited for; it continues with the next round. The same call while the
        verification runs waits for that one. Raises errors.NotFound for a campaign or a round that does not exist.

        Args:
            rounds: their numbers, 0 for adapter 0; None means all rounds that are closed now, with adapter 0.
            on_progress: called with the verification at each poll; ``outcomes`` are those since the last call.
        """
        job = self.start_verification(campaign_id, rounds)
        return self.wait_for_verification(job.campaign_id, job.id, on_progress=on_progress)

    def start_verification(self, campaign_id: str, rounds: Sequence[int] | None = None) -> VerificationView:
        """Start a verification, and do not wait for it. Raises errors.NotFound."""
        numbers = list(rounds) if rounds is not None else None
        return verifications.start(self._transport, _campaign_path(campaign_id), numbers)

    def wait_for_verification(
        self, campaign_id: str, verification_id: str, *, on_progress: OnProgress | None = None
    ) -> VerificationDetail:
        """Wait until a verification is done or cancelled, as ``verify`` does. Raises errors.NotFound."""
        return verifications.follow(self._transport, _campaign_path(campaign_id), verification_id, on_progress)

    def verification(self, campaign_id: str, verification_id: str) -> VerificationDetail:
        """A verification with its outcomes so far. Raises errors.NotFound."""
        return verifications.read(self._transport, _campaign_path(campaign_id), verification_id)

    def verifications(self, campaign_id: str, *, state: VerificationState | None = None) -> Iterator[VerificationView]:
        """A campaign's verifications, newest first; the coordinator deletes old ones."""
        path = verifications.verifications_path(_campaign_path(campaign_id))
        return self._listing(VerificationView, path, state=state)

    def cancel_verification(self, campaign_id: str, verification_id: str) -> VerificationView:
        """End a verification early; its outcomes stay. Raises errors.IllegalMove and errors.NotFound."""
        return verifications.cancel(self._transport, _campaign_path(campaign_id), verification_id)

    def wait(self, campaign_id: str, timeout_s: float | None = None) -> CampaignDetail:
        """Wait until a campaign is completed, cancelled or paused, and return it.

        Waits through a restart of the coordinator or of its database. Raises errors.WaitTimeout after *timeout_s*
        seconds (None waits without limit), and errors.NotFound.
        """
        started_at, poll_s = time.monotonic(), 0.2
        campaign, seen_at = self.campaign(campaign_id), started_at
        while not campaign.state.is_at_rest:
            now = time.monotonic()
            if timeout_s is not None:
                left_s = timeout_s - (now - started_at)
                if left_s <= 0:
                    raise WaitTimeout(campaign.name, timeout_s, campaign.state)
                poll_s = min(poll_s, left_s)
            time.sleep(poll_s)
            poll_s = min(LONGEST_POLL_S, poll_s * 1.5)
            try:
                campaign, seen_at = self.campaign(campaign.id), time.monotonic()
            except (Unreachable, Refused) as error:
                if not is_outage(error) or now - seen_at > OUTAGE_S:
                    raise
        return campaign

    def rounds(self, campaign_id: str, *, state: RoundState | None = None) -> Iterator[RoundView]:
        """A campaign's rounds, oldest first."""
        return self._listing(RoundView, f"{_campaign_path(campaign_id)}/rounds", state=state)

    def tasks(
        self,
        campaign_id: str,
        state: TaskState | None = None,
        round: int | None = None,  # noqa: A002
        *,
        kind: TaskKind | None = None,
        agent: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[TaskView]:
        """A campaign's tasks, oldest first; leased tasks have their current progress.

        Args:
            state, round, kind: only tasks with these.
            agent: only tasks of the agent with this id or name.
            since, until: only tasks created in this span; times have a zone.
        """
        filters = {"state": state, "round": round, "kind": kind, "agent": agent, **time_filter(since, until)}
        return self._listing(TaskView, f"{_campaign_path(campaign_id)}/tasks", **filters)

    def metrics(
        self,
        campaign_id: str,
        name: str | None = None,
        round: int | None = None,  # noqa: A002
        scope: MetricScope | None = None,
        *,
        client: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[MetricView]:
        """A campaign's metrics, as they were recorded. A metric of a whole round has ``client_number`` None.

        So have those of benchmarks, named ``TASK.METRIC``, and the means over them; their ``round`` is the adapter.

        Args:
            name, round: only metrics with these.
            scope: only metrics of whole rounds, or only those of clients.
            client: only metrics of the client with this number.
            since, until: only metrics recorded in this span; times have a zone.
        """
        filters = {"name": name, "round": round, "scope": scope, "client": client, **time_filter(since, until)}
        return self._listing(MetricView, f"{_campaign_path(campaign_id)}/metrics", **filters)

    def clients(self, campaign_id: str) -> Iterator[ClientView]:
        """A campaign's clients by number: the weight of their last updates, their losses now and at the start."""
        return self._listing(ClientView, f"{_campaign_path(campaign_id)}/clients")

    def gains(self, campaign_id: str, *, round: int | None = None) -> Iterator[GainView]:  # noqa: A002
        """What owners gain by a campaign's adapters, as far as they tell it, in the order in which they first did.

        round: only by the adapter of this number.
        """
        return self._listing(GainView, f"{_campaign_path(campaign_id)}/gains", round=round)

    def events(
        self,
        campaign_id: str,
        after: int = 0,
        *,
        follow: bool = True,
        types: Sequence[EventType] = (),
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[EventView]:
        """A campaign's events after number *after*, and new events as they happen until the campaign ends.

        A broken connection is reopened after the last event received. With *follow* false, past events only.

        Args:
            types: only events of these types; any, if empty.
            since, until: only events recorded in this span; times have a zone. *until* is for past events only.
        """
        span = time_filter(since, until)
        return self._campaign_events(campaign_id, after, {"type": list(types), **span}, follow=follow)

    def _campaign_events(
        self, campaign_id: str, after: int, params: Mapping[str, Any], *, follow: bool
    ) -> Iterator[EventView]:
        if follow:  # a later campaign with the same name must not take its place
            campaign_id = self.campaign(campaign_id).id
        path = _campaign_path(campaign_id)
        feed = Feed(f"{path}/events", EventView, lambda event: event.number, path, params)
        yield from (follow_events if follow else past_events)(self._transport, feed, after)

    def all_events(
        self,
        after: int = 0,
        *,
        follow: bool = True,
        types: Sequence[EventType] = (),
        campaign: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[FeedEventView]:
        """The events of all campaigns after position *after*, and new events as they happen, without an end.

        Positions have no gaps: who continues after the last one misses nothing. A broken connection is reopened. With
        *follow* false, past events only.

        Args:
            types: only events of these types; any, if empty.
            campaign: only events of the campaign with this id, or of the newest with this name.
            since, until: only events recorded in this span; times have a zone. *until* is for past events only.
        """
        params = {"type": list(types), **time_filter(since, until)}
        return self._feed(campaign, after, params, follow=follow)

    def _feed(
        self, campaign: str | None, after: int, params: Mapping[str, Any], *, follow: bool
    ) -> Iterator[FeedEventView]:
        if campaign is not None:  # as in _campaign_events
            params = {**params, "campaign": self.campaign(campaign).id}
        feed = Feed("/v1/events", FeedEventView, lambda event: event.position, params=params)
        yield from (follow_events if follow else past_events)(self._transport, feed, after)

    # --- adapters

    def adapters(
        self,
        campaign_id: str,
        *,
        stored: bool | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[AdapterView]:
        """A campaign's global adapters with their lineage, by number.

        Args:
            stored: only those whose bytes are stored, or are not.
            since, until: only those made in this span; times have a zone.
        """
        filters = {"stored": stored, **time_filter(since, until)}
        return self._listing(AdapterView, f"{_campaign_path(campaign_id)}/adapters", **filters)

    def adapter(self, campaign_id: str, which: WhichAdapter) -> AdapterView:
        """One global adapter, by number or as ``"final"``, ``"best"`` (by the campaign's ``evaluation.best``) or
        ``"latest"``. Its ``metrics`` are the means over the clients and what benchmarks gave, such as ``fpb.acc``; its
        ``benchmarks`` say on how many items, at which agent, and why one gave no number.

        Raises errors.NotFound, which says why there is none.
        """
        return self._transport.fetch(AdapterView, f"{_campaign_path(campaign_id)}/adapters/{which}")

    def pull_adapter(self, campaign_id: str, which: WhichAdapter, folder: Path, *, force: bool = False) -> AdapterView:
        """Write an adapter as a folder that PEFT and vLLM load: weights, configuration and a model card.

        The folder appears complete or not at all; *force* replaces an existing one. Raises errors.NoSuchAdapter,
        errors.NotFound, errors.FolderNotEmpty, errors.CorruptDownload and OSError.
        """
        campaign = self.campaign(campaign_id)
        adapter = self.adapter(campaign.id, which)
        protection = Protection.of(self.rounds(campaign.id, state=RoundState.CLOSED), adapter.number)
        if not adapter.stored:
            reason = f"its weights are no longer stored (retention.adapters: {campaign.spec.retention.adapters})"
            raise NoSuchAdapter(campaign.name, str(adapter.number), reason)
        facts = AdapterFacts.of(campaign, adapter, protection)
        write_adapter_folder(
            facts, lambda path: download_blob(self._transport, adapter.blob, path), folder, force=force
        )
        return adapter

    # --- agents and their tokens

    def create_token(
        self, labels: Mapping[str, str] | None = None, *, expires_in_s: float = 7 * 86400.0, note: str = ""
    ) -> TokenCreated:
        """Create a one-time enrolment token. Only this reply contains the secret. Raises pydantic.ValidationError."""
        body = TokenCreate(labels=dict(labels or {}), expires_in_s=expires_in_s, note=note)
        return self._post(TokenCreated, "/v1/tokens", body.model_dump(mode="json"))

    def tokens(
        self,
        *,
        state: TokenState | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[TokenView]:
        """Enrolment tokens, newest first, without their secrets.

        Args:
            state: only tokens that are open, used or expired.
            labels: only tokens with all of these labels.
            since, until: only tokens made in this span; times have a zone.
        """
        filters = {"state": state, "label": label_filter(labels), **time_filter(since, until)}
        return self._listing(TokenView, "/v1/tokens", **filters)

    def delete_token(self, token_id: str) -> None:
        """Delete a token. An agent that enrolled with it stays enrolled. Raises errors.NotFound."""
        self._transport.request("DELETE", path_of("token", token_id))

    def agents(
        self,
        *,
        state: AgentState | None = None,
        name: str | None = None,
        labels: Mapping[str, str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[AgentView]:
        """Enrolled agents in the order of their enrolment.

        Args:
            state, name: only agents with these.
            labels: only agents with all of these labels.
            since, until: only agents enrolled in this span; times have a zone.
        """
        filters = {"state": state, "name": name, "label": label_filter(labels), **time_filter(since, until)}
        return self._listing(AgentView, "/v1/agents", **filters)

    def agent(self, id_or_name: str) -> AgentView:
        """One agent, by id or name. Raises errors.NotFound."""
        return self._transport.fetch(AgentView, path_of("agent", id_or_name))

    def revoke_agent(self, id_or_name: str) -> AgentView:
        """Revoke an agent's access for good. Raises errors.NotFound."""
        return self._post(AgentView, f"{path_of('agent', id_or_name)}/revoke")

    # --- the service

    def algorithms(self) -> Iterator[AlgorithmView]:
        """The algorithms that the coordinator offers."""
        return self._listing(AlgorithmView, "/v1/algorithms")

    def storage(self) -> StorageView:
        """Bytes that the coordinator stores, by kind."""
        return self._transport.fetch(StorageView, "/v1/storage")

    def health(self) -> Health:
        """Whether the coordinator is ready. If it is not, the reply gives the reason."""
        return self._transport.read(Health, self._transport.request("GET", "/readyz", accept_status=503))

    def _post(self, model: type[M], path: str, body: Any = None) -> M:
        return self._transport.read(model, self._transport.request("POST", path, body=body))

    def _listing(self, model: type[M], path: str, **params: Any) -> Iterator[M]:
        cursor = None
        while True:
            page = self._transport.fetch(Page[model], path, cursor=cursor, limit=500, **params)  # type: ignore[valid-type]
            yield from page.items
            cursor = page.next_cursor
            if cursor is None:
                return


def _campaign_path(campaign_id: str) -> str:
    return path_of("campaign", campaign_id)


def _key_from(file: Path | None) -> str | None:
    """The operator's key in *file*, or where the environment says. Raises OSError for *file*, and BadEnvironment."""
    if file is not None:
        return read_secret(file)
    if key := os.environ.get(KEY_VARIABLE):
        return key
    named = os.environ.get(KEY_FILE_VARIABLE)
    if not named:
        return None
    try:
        return read_secret(Path(named))
    except OSError as error:
        raise BadEnvironment(f"{KEY_FILE_VARIABLE} names {named}, which cannot be used: {error.strerror}") from error
