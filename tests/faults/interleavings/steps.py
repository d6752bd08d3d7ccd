"""Actions of owners and the operator, each with its allowed replies."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from typing import Any

import httpx

from coordinator.database.tables import TaskRow
from shared.campaign.digest import spec_sha256
from shared.campaign.sections import FROM_COORDINATOR
from shared.campaign.spec import CampaignSpec
from shared.digest import sha256_hex
from shared.states import TaskState
from shared.wire.agents import Part
from shared.wire.tasks.leases import FailureKind
from tests.faults.interleavings.books import Book
from tests.faults.interleavings.owners import Draw, Lease, Owner, Work
from tests.faults.interleavings.snapshot import task_of, whole_uploads
from tests.faults.interleavings.world import World
from tests.support.operator import problem
from tests.support.scripted import ScriptedAgent

NAMES = "cadbefg"
"""Not in alphabetical order, because clients are numbered by name and not by enrolment."""


class Steps:
    """The owners of one example, and all leases granted to them."""

    def __init__(self, world: World, book: Book, example: int) -> None:
        self._world, self._book = world, book
        self._draw = Draw(example)
        self.labels = {"example": str(example)}
        self.owners: list[Owner] = []
        self.leases: list[Lease] = []

    @property
    def active(self) -> Sequence[Owner]:
        return [owner for owner in self.owners if not owner.is_revoked]

    # the operator

    def join(self) -> None:
        """A new agent enrols."""
        number = len(self.owners)
        name = f"{NAMES[number % len(NAMES)]}{number}-of-{self.labels['example']}"
        agent = ScriptedAgent(self._world.url, self._world.operator.token(labels=self.labels), name)
        owner = Owner(agent, 10 * (number + 1), 3 * (number % 2 + 1), self._world.scratch)
        self.owners.append(owner)

    def revoke(self, owner: Owner) -> None:
        self._world.operator.post(f"/v1/agents/{owner.id}/revoke")
        owner.is_revoked = True

    def roll_back(self, campaign_id: str, to: int) -> None:
        path = f"/v1/campaigns/{campaign_id}/rollback"
        reply = self._world.operator.http.post(path, json={"round": to})
        if reply.status_code == 200:
            self._book.roll_back(campaign_id, to)
        else:
            assert reply.status_code in (409, 422), reply.text

    def finish_early(self, campaign_id: str) -> None:
        reply = self._world.operator.campaign(campaign_id, "finish")
        assert reply.status_code in (200, 409), reply.text

    # leases

    def ask(self, owner: Owner, process: int = 0) -> Lease | None:
        """Ask for work."""
        reply = owner.ask(process)
        if owner.is_revoked:
            assert reply.status_code == 403
            return None
        assert reply.status_code in (201, 204, 409), reply.text
        if reply.status_code == 409:
            assert problem(reply).kind == "agent-already-running"
        if reply.status_code != 201:
            return None
        lease = Lease(owner, reply.json())
        before = self._book.granted.get(lease.task_id)
        self._book.grant(lease)
        self.leases.append(lease)
        self._check_job(lease)
        if before is None:
            campaign = self._world.operator.get(f"/v1/campaigns/{lease.campaign_id}")
            assert campaign["state"] in ("preparing", "initializing", "running", "finishing"), (
                "a paused or ended campaign handed out work"
            )
        return lease

    def _check_job(self, lease: Lease) -> None:
        """Check that a lease names the specification that was accepted, and blobs that can be downloaded."""
        if spec := lease.job.get("spec"):
            asked = CampaignSpec.model_validate(spec, context=FROM_COORDINATOR)
            assert lease.job["spec_sha256"] == spec_sha256(asked, date.fromisoformat(lease.job["created_on"]))
        accepted = lease.owner.digests.setdefault(lease.campaign_id, lease.job["spec_sha256"])
        assert lease.job["spec_sha256"] == accepted
        for name in ("adapter", "broadcast"):
            blob = lease.job.get(name)
            if blob is not None:
                reply = lease.owner.agent.http.get(f"/v1/blobs/{blob['sha256']}")
                assert reply.status_code == 200, reply.text
                assert sha256_hex(reply.content) == blob["sha256"]

    def renew(self, lease: Lease) -> None:
        reply = lease.owner.agent.renew(lease.body)
        if reply.status_code == 200 and reply.json()["directive"] == "continue":
            assert self._book.may_live(lease)
        elif reply.status_code == 200:
            assert self._book.granted[lease.task_id] is lease
            assert self._task(lease).state in (TaskState.CANCELLED, TaskState.SUPERSEDED)
        else:
            self._check_refused(lease, reply)

    def release(self, lease: Lease) -> None:
        reply = lease.owner.agent.release(lease.body)
        if reply.status_code == 204:
            self._book.end(lease)
        else:
            self._check_refused(lease, reply)

    def fail(self, lease: Lease) -> None:
        reply = lease.owner.agent.failure(lease.body, kind="crash", message="the training died")
        if reply.status_code == 200:
            self._book.fail(lease)
        else:
            self._check_refused(lease, reply)

    # owners' words

    def say(self, owner: Owner, campaign_id: str, part: Part) -> None:
        """An owner has its agent take part in a campaign, pause or leave."""
        reply = owner.agent.http.put(f"/v1/agents/me/campaigns/{campaign_id}", json={"part": part})
        if owner.is_revoked:
            assert reply.status_code == 403
            return
        campaign = self._world.operator.get(f"/v1/campaigns/{campaign_id}")
        if owner.name not in [each["agent_name"] for each in campaign["participants"]]:
            assert (reply.status_code, problem(reply).kind) == (404, "not-found"), reply.text
        elif campaign["state"] in ("completed", "cancelled"):
            assert (reply.status_code, problem(reply).kind) == (409, "illegal-move"), reply.text
        else:
            assert reply.status_code == 204, reply.text
            if part is not Part.TAKES_PART:
                self._book.stop(owner, campaign_id)

    def answer_for_owner(self, lease: Lease, kind: FailureKind) -> None:
        """The agent answers a task with what its owner said: not yet, not now, or no."""
        reply = lease.owner.agent.failure(lease.body, kind=kind, message="as its owner says")
        if reply.status_code == 200:
            self._book.fail(lease)
            assert self._task(lease).state is not TaskState.FAILED, "an owner's word is no failure"
        else:
            self._check_refused(lease, reply)

    def hold(self, lease: Lease) -> None:
        """The agent holds its update, as its owner says."""
        reply = lease.owner.agent.hold(lease.body)
        if reply.status_code == 204:
            self._book.hold(lease)
            assert self._task(lease).state is TaskState.HELD
        elif reply.status_code == 422:
            assert lease.kind != "train"
        else:
            self._check_refused(lease, reply)

    def let_go(self, owner: Owner) -> None:
        """An owner lets all updates go, whether they are held or not."""
        for lease in {lease.task_id: lease for lease in self.leases if lease.owner is owner}.values():
            before = self._task(lease).state
            reply = owner.agent.let_go(lease.task_id)
            if owner.is_revoked:
                assert reply.status_code == 403
            elif before in (TaskState.FAILED, TaskState.CANCELLED, TaskState.SUPERSEDED):
                assert (reply.status_code, problem(reply).kind) == (409, "illegal-move"), reply.text
            else:
                expected = TaskState.PENDING if before is TaskState.HELD else before
                assert (reply.status_code, reply.json()["state"]) == (200, expected), reply.text
                assert self._task(lease).state is expected

    # updates

    def upload(self, lease: Lease, variant: int = 0, *, half: bool = False) -> None:
        """Send the missing part of a task's files, or of their first half."""
        for purpose, data in self._work(lease, variant).files.items():
            self._send(lease, purpose, data, to=len(data) // 2 if half else len(data))

    def complete(self, lease: Lease, variant: int = 0, *, at_once: int = 1) -> None:
        """Send a result, possibly several times at once, incompletely uploaded, late, again, or from an old attempt."""
        work = self._work(lease, variant)
        lease.owner.store_client_state(lease, work)
        with ThreadPoolExecutor(at_once) as pool:
            sent = [pool.submit(lease.owner.agent.result, lease.body, work.body) for _ in range(at_once)]
        replies = [each.result() for each in sent]
        assert len({reply.status_code for reply in replies}) == 1
        for reply in replies:
            self._check_answer(lease, work, reply)

    def send_two_results(self, lease: Lease) -> None:
        """Send the results of two trainings of one task at once: only one counts."""
        works = [self._work(lease, variant) for variant in (0, 1)]
        for variant, work in enumerate(works):
            self.upload(lease, variant)
            lease.owner.store_client_state(lease, work)
        with ThreadPoolExecutor(2) as pool:
            sent = [pool.submit(lease.owner.agent.result, lease.body, work.body) for work in works]
        answers = [(each.result(), work) for each, work in zip(sent, works, strict=True)]
        for reply, work in sorted(answers, key=lambda answer: answer[0].status_code):
            self._check_answer(lease, work, reply)

    def send_wrong_chunks(self, lease: Lease) -> None:
        """Send a chunk at a wrong offset, and one whose bytes do not match their digest."""
        for purpose, data in self._work(lease).files.items():
            upload = self._start_upload(lease, purpose, data)
            if upload is None:
                continue
            agent, at = lease.owner.agent, upload["offset"]
            replies = [
                agent.send_chunk(lease.body, upload["id"], at + 8, data[at : at + 8]),
                agent.send_chunk(
                    lease.body, upload["id"], at, data[at:], **{"Content-Digest": f"sha-256=:{'A' * 43}=:"}
                ),
            ]
            assert [reply.status_code for reply in replies] == [409, 422]

    def send_bad_update(self, lease: Lease) -> None:
        """Send an update that contains NaN."""
        if lease.kind != "train":
            return
        work = self._work(lease)
        bad = {purpose: lease.owner.spoil(lease, purpose) for purpose in work.files}
        for purpose, data in bad.items():
            self._send(lease, purpose, data, to=len(data))
        body = {**work.body, **{purpose: sha256_hex(data) for purpose, data in bad.items()}}
        reply = lease.owner.agent.result(lease.body, body)
        assert reply.status_code != 200
        self._check_answer(lease, Work(body), reply)

    # correct behaviour

    def do_next(self, owner: Owner) -> bool:
        """Do the next task from lease to result. Returns whether one was granted."""
        lease = self.ask(owner)
        if lease is not None:
            self.upload(lease)
            self.complete(lease)
            assert lease.task_id in self._book.accepted
        return lease is not None

    def all_work(self, but: Owner | None = None) -> None:
        """All owners, or all but one, do all available tasks."""
        for owner in self.active:
            while owner is not but and self.do_next(owner):
                pass

    # helpers

    def _work(self, lease: Lease, variant: int = 0) -> Work:
        return lease.owner.work_of(lease, variant, self._draw)

    def _task(self, lease: Lease) -> TaskRow:
        return self._world.run(task_of(self._world.services, lease.task_id))

    def _check_refused(self, lease: Lease, reply: httpx.Response) -> None:
        """Check that a refusal is right: the lease's attempt is no longer current, or the task has ended."""
        if lease.owner.is_revoked:
            assert reply.status_code == 403
            return
        assert (reply.status_code, problem(reply).kind) == (410, "lease-lost"), reply.text
        task = self._task(lease)
        assert task.attempt != lease.attempt or task.state is not TaskState.LEASED

    def _check_answer(self, lease: Lease, work: Work, reply: httpx.Response) -> None:
        self._book.result(lease, work, reply)
        if reply.status_code in (403, 410):
            self._check_refused(lease, reply)
        elif reply.status_code == 422 and problem(reply).kind != "bad-update":
            assert problem(reply).kind == "invalid", reply.text
            needed = {sha256_hex(data) for data in work.files.values()}
            assert not needed <= self._world.run(whole_uploads(self._world.services, lease.task_id))

    def _start_upload(self, lease: Lease, purpose: str, data: bytes) -> dict[str, Any] | None:
        reply = lease.owner.agent.start_upload(lease.body, purpose, data)
        if reply.status_code != 201:
            self._check_refused(lease, reply)
            return None
        upload: dict[str, Any] = reply.json()
        self._book.offset(upload["id"], upload["offset"])
        return upload

    def _send(self, lease: Lease, purpose: str, data: bytes, to: int) -> None:
        """Send a part of a file from the current offset."""
        upload = self._start_upload(lease, purpose, data)
        if upload is None or upload["offset"] >= to:
            return
        reply = lease.owner.agent.send_chunk(lease.body, upload["id"], upload["offset"], data[upload["offset"] : to])
        assert reply.status_code == 204, reply.text
        self._book.append(upload["id"], to)
