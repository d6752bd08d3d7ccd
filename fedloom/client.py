"""The coordinator's client: every call of the operator's API, typed."""

import os
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

from pydantic import BaseModel

from fedloom import verifications
from fedloom.adapters.folder import write_adapter_folder
from fedloom.errors import NoSuchAdapter, NotFound, Unreachable, WaitTimeout
from fedloom.event_stream import follow_events, past_events
from fedloom.transport import OUTAGE_S, Transport
from fedloom.verifications import OnProgress
from shared.campaign.file import read_campaign_file
from shared.campaign.spec import CampaignSpec
from shared.states import TaskState
from shared.wire.adapters import AdapterView
from shared.wire.agents import AgentView
from shared.wire.base import Page
from shared.wire.campaigns import CampaignDetail, CampaignView, MetricView, RoundView, TaskView
from shared.wire.enrollments import TokenCreate, TokenCreated, TokenView
from shared.wire.events import EventView
from shared.wire.service import AlgorithmView, Health, StorageView
from shared.wire.verification import VerificationDetail, VerificationView

DEFAULT_URL = "http://127.0.0.1:8470"
URL_VARIABLE = "FEDLOOM_URL"
KEY_VARIABLE = "FEDLOOM_KEY"
LONGEST_POLL_S = 5.0

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
        ca_file: Path | None = None,
        insecure: bool = False,
        timeout_s: float = 30.0,
    ) -> None:
        """Create a client. No request is sent yet.

        Args:
            url: The coordinator's address. By default FEDLOOM_URL, then http://127.0.0.1:8470.
            key: The operator's key. By default FEDLOOM_KEY.
            ca_file: A CA to trust instead of the system's.
            insecure: Allow plain http:// to another host.
            timeout_s: Seconds to wait for a reply.

        Raises errors.InsecureUrl, errors.MalformedKey, errors.Unreachable if *url* is not a URL, and OSError if
        *ca_file* cannot be read.
        """
        url = url or os.environ.get(URL_VARIABLE) or DEFAULT_URL
        key = key or os.environ.get(KEY_VARIABLE)
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
        invalid file, pydantic.ValidationError for invalid fields, errors.Invalid, errors.Conflict and OSError.
        """
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

    def campaigns(self, name: str | None = None) -> Iterator[CampaignView]:
        """All campaigns, newest first. name: only campaigns of this name."""
        return self._listing(CampaignView, "/v1/campaigns", name=name)

    def campaign(self, campaign_id: str) -> CampaignDetail:
        """One campaign. Raises errors.NotFound."""
        return self._transport.fetch(CampaignDetail, _campaign_path(campaign_id))

    def find_campaign(self, id_or_name: str) -> CampaignDetail:
        """The campaign with this id, otherwise the newest of this name. Raises errors.NotFound."""
        try:
            return self.campaign(id_or_name)
        except NotFound:
            newest = next(self.campaigns(name=id_or_name), None)
            if newest is None:
                raise
            return self.campaign(newest.id)

    def pause(self, campaign_id: str) -> CampaignView:
        """Stop giving out work until ``resume``. Raises errors.IllegalMove and errors.NotFound."""
        return self._post(CampaignView, f"{_campaign_path(campaign_id)}/pause")

    def resume(self, campaign_id: str) -> CampaignView:
        """Continue a paused campaign. Raises errors.IllegalMove and errors.NotFound."""
        return self._post(CampaignView, f"{_campaign_path(campaign_id)}/resume")

    def cancel(self, campaign_id: str) -> CampaignView:
        """End a campaign for good; its adapters are kept. Raises errors.IllegalMove and errors.NotFound."""
        return self._post(CampaignView, f"{_campaign_path(campaign_id)}/cancel")

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
        return self.wait_for_verification(
            campaign_id, self.start_verification(campaign_id, rounds).id, on_progress=on_progress
        )

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

    def verifications(self, campaign_id: str) -> Iterator[VerificationView]:
        """A campaign's verifications, newest first; the coordinator deletes old ones."""
        return self._listing(VerificationView, verifications.verifications_path(_campaign_path(campaign_id)))

    def cancel_verification(self, campaign_id: str, verification_id: str) -> VerificationView:
        """End a verification early; its outcomes stay. Raises errors.IllegalMove and errors.NotFound."""
        return verifications.cancel(self._transport, _campaign_path(campaign_id), verification_id)

    def wait(self, campaign_id: str, timeout_s: float | None = None) -> CampaignDetail:
        """Wait until a campaign is completed, cancelled or paused, and return it.

        Waits through a restart of the coordinator. Raises errors.WaitTimeout after *timeout_s* seconds (None waits
        without limit), and errors.NotFound.
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
                campaign, seen_at = self.campaign(campaign_id), time.monotonic()
            except Unreachable:
                if now - seen_at > OUTAGE_S:
                    raise
        return campaign

    def rounds(self, campaign_id: str) -> Iterator[RoundView]:
        """A campaign's rounds, oldest first."""
        return self._listing(RoundView, f"{_campaign_path(campaign_id)}/rounds")

    def tasks(self, campaign_id: str, state: TaskState | None = None, round: int | None = None) -> Iterator[TaskView]:  # noqa: A002
        """A campaign's tasks; leased tasks have their current progress."""
        return self._listing(TaskView, f"{_campaign_path(campaign_id)}/tasks", state=state, round=round)

    def metrics(self, campaign_id: str, name: str | None = None, round: int | None = None) -> Iterator[MetricView]:  # noqa: A002
        """A campaign's metrics. A metric of a whole round has ``client_number`` None."""
        return self._listing(MetricView, f"{_campaign_path(campaign_id)}/metrics", name=name, round=round)

    def events(self, campaign_id: str, after: int = 0, *, follow: bool = True) -> Iterator[EventView]:
        """A campaign's events after number *after*, and new events as they happen until the campaign ends.

        A broken connection is reopened after the last event received. With *follow* false, past events only.
        """
        path = _campaign_path(campaign_id)
        return (
            follow_events(self._transport, path, after)
            if follow
            else past_events(self._transport, f"{path}/events", after)
        )

    # --- adapters

    def adapters(self, campaign_id: str) -> Iterator[AdapterView]:
        """A campaign's global adapters with their lineage, by number."""
        return self._listing(AdapterView, f"{_campaign_path(campaign_id)}/adapters")

    def adapter(self, campaign_id: str, which: WhichAdapter) -> AdapterView:
        """One global adapter, by number or as ``"final"``, ``"best"`` (lowest held-out loss) or ``"latest"``.

        Raises errors.NoSuchAdapter and errors.NotFound.
        """
        number: int | None
        if isinstance(which, int):
            number = which
        else:
            campaign = self.campaign(campaign_id)
            number = {
                "final": campaign.final_adapter,
                "best": campaign.best_adapter,
                "latest": campaign.rounds_closed,
            }[which]
            if number is None:
                reason = "no adapter has been evaluated" if which == "best" else f"it is {campaign.state}"
                raise NoSuchAdapter(campaign.name, which, reason)
        return self._transport.fetch(AdapterView, f"{_campaign_path(campaign_id)}/adapters/{number}")

    def pull_adapter(self, campaign_id: str, which: WhichAdapter, folder: Path, *, force: bool = False) -> AdapterView:
        """Write an adapter as a folder that PEFT and vLLM load: weights, configuration and a model card.

        The folder appears complete or not at all; *force* replaces an existing one. Raises errors.NoSuchAdapter,
        errors.NotFound, errors.FolderNotEmpty, errors.CorruptDownload and OSError.
        """
        campaign = self.campaign(campaign_id)
        adapter = self.adapter(campaign_id, which)
        write_adapter_folder(self._transport, campaign, adapter, folder, force=force)
        return adapter

    # --- agents and their tokens

    def create_token(
        self, labels: Mapping[str, str] | None = None, *, expires_in_s: float = 7 * 86400.0, note: str = ""
    ) -> TokenCreated:
        """Create a one-time enrolment token. Only this reply contains the secret. Raises pydantic.ValidationError."""
        body = TokenCreate(labels=dict(labels or {}), expires_in_s=expires_in_s, note=note)
        return self._post(TokenCreated, "/v1/tokens", body.model_dump(mode="json"))

    def tokens(self) -> Iterator[TokenView]:
        """Enrolment tokens, newest first, without their secrets."""
        return self._listing(TokenView, "/v1/tokens")

    def delete_token(self, token_id: str) -> None:
        """Delete a token. An agent that enrolled with it stays enrolled. Raises errors.NotFound."""
        self._transport.request("DELETE", f"/v1/tokens/{quote(token_id, safe='')}")

    def agents(self) -> Iterator[AgentView]:
        """All enrolled agents."""
        return self._listing(AgentView, "/v1/agents")

    def agent(self, id_or_name: str) -> AgentView:
        """One agent, by id or name. Raises errors.NotFound."""
        return self._transport.fetch(AgentView, f"/v1/agents/{quote(id_or_name, safe='')}")

    def revoke_agent(self, id_or_name: str) -> AgentView:
        """Revoke an agent's access for good. Raises errors.NotFound."""
        return self._post(AgentView, f"/v1/agents/{quote(id_or_name, safe='')}/revoke")

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
    return f"/v1/campaigns/{quote(campaign_id, safe='')}"
