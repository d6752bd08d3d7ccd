"""What owners and the operator can do, each with what may be answered."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx

from coordinator.database.tables import TaskRow
from shared.digest import sha256_hex
from shared.states import TaskState
from tests.faults.interleavings.books import Book
from tests.faults.interleavings.owners import Draw, Lease, Owner, Work
from tests.faults.interleavings.seen import task_of, whole_uploads
from tests.faults.interleavings.world import World
from tests.support.operator import problem
from tests.support.scripted import ScriptedAgent

NAMES = "cadbefg"
"""In another order than that of enrolment: clients are numbered by name."""


class Steps:
    """One example's owners, and the leases that they were ever granted."""

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
            assert campaign["state"] in ("preparing", "initializing", "running", "finishing"), "nobody asked for it"
        return lease

    def _check_job(self, lease: Lease) -> None:
        """What a lease names can be had."""
        for name in ("adapter", "broadcast"):
            blob = lease.job.get(name)
            if blob is not None:
                reply = lease.owner.agent.http.get(f"/v1/blobs/{blob['sha256']}")
                assert reply.status_code == 200, reply.text
                assert sha256_hex(reply.content) == blob["sha256"]

    def renew(self, lease: Lease) -> None:
        reply = lease.owner.agent.renew(lease.said)
        if reply.status_code == 200 and reply.json()["directive"] == "continue":
            assert self._book.may_live(lease)
        elif reply.status_code == 200:
            assert self._book.granted[lease.task_id] is lease
            assert self._task(lease).state in (TaskState.CANCELLED, TaskState.SUPERSEDED)
        else:
            self._is_lost(lease, reply)

    def release(self, lease: Lease) -> None:
        reply = lease.owner.agent.release(lease.said)
        if reply.status_code == 204:
            self._book.end(lease)
        else:
            self._is_lost(lease, reply)

    def fail(self, lease: Lease) -> None:
        reply = lease.owner.agent.failure(lease.said, kind="crash", message="the training died")
        if reply.status_code == 200:
            self._book.fail(lease)
        else:
            self._is_lost(lease, reply)

    # updates

    def upload(self, lease: Lease, variant: int = 0, *, half: bool = False) -> None:
        """Send what is missing of a task's files, or of their first half."""
        for purpose, data in self._work(lease, variant).files.items():
            self._send(lease, purpose, data, to=len(data) // 2 if half else len(data))

    def complete(self, lease: Lease, variant: int = 0, *, at_once: int = 1) -> None:
        """Send a result, several times at once: with whatever was uploaded, late, again, as an old attempt."""
        work = self._work(lease, variant)
        lease.owner.keep(lease, work)
        with ThreadPoolExecutor(at_once) as pool:
            sent = [pool.submit(lease.owner.agent.result, lease.said, work.body) for _ in range(at_once)]
        replies = [each.result() for each in sent]
        assert len({reply.status_code for reply in replies}) == 1
        for reply in replies:
            self._answered(lease, work, reply)

    def send_two_results(self, lease: Lease) -> None:
        """At once, of two trainings of the same task: one of them counts."""
        works = [self._work(lease, variant) for variant in (0, 1)]
        for variant, work in enumerate(works):
            self.upload(lease, variant)
            lease.owner.keep(lease, work)
        with ThreadPoolExecutor(2) as pool:
            sent = [pool.submit(lease.owner.agent.result, lease.said, work.body) for work in works]
        answers = [(each.result(), work) for each, work in zip(sent, works, strict=True)]
        for reply, work in sorted(answers, key=lambda answer: answer[0].status_code):
            self._answered(lease, work, reply)

    def send_wrong_chunks(self, lease: Lease) -> None:
        """At a place where nothing is missing, and with bytes that are not those of their digest."""
        for purpose, data in self._work(lease).files.items():
            upload = self._start_upload(lease, purpose, data)
            if upload is None:
                continue
            agent, at = lease.owner.agent, upload["offset"]
            replies = [
                agent.send_chunk(lease.said, upload["id"], at + 8, data[at : at + 8]),
                agent.send_chunk(
                    lease.said, upload["id"], at, data[at:], **{"Content-Digest": f"sha-256=:{'A' * 43}=:"}
                ),
            ]
            assert [reply.status_code for reply in replies] == [409, 422]

    def send_bad_update(self, lease: Lease) -> None:
        """With NaN in it."""
        if lease.kind != "train":
            return
        work = self._work(lease)
        bad = {purpose: lease.owner.spoil(lease, purpose) for purpose in work.files}
        for purpose, data in bad.items():
            self._send(lease, purpose, data, to=len(data))
        body = {**work.body, **{purpose: sha256_hex(data) for purpose, data in bad.items()}}
        reply = lease.owner.agent.result(lease.said, body)
        assert reply.status_code != 200
        self._answered(lease, Work(body), reply)

    # as it should be

    def do_next(self, owner: Owner) -> bool:
        """Do the next task, from the lease to the result; whether there was one."""
        lease = self.ask(owner)
        if lease is not None:
            self.upload(lease)
            self.complete(lease)
            assert lease.task_id in self._book.accepted
        return lease is not None

    def all_work(self, but: Owner | None = None) -> None:
        """Everybody, or all but one, do all that there is to do."""
        for owner in self.active:
            while owner is not but and self.do_next(owner):
                pass

    # what they have in common

    def _work(self, lease: Lease, variant: int = 0) -> Work:
        return lease.owner.work_of(lease, variant, self._draw)

    def _task(self, lease: Lease) -> TaskRow:
        return self._world.run(task_of(self._world.services, lease.task_id))

    def _is_lost(self, lease: Lease, reply: httpx.Response) -> None:
        """A refusal is right: the lease's attempt is not the task's any more, or the task has ended."""
        if lease.owner.is_revoked:
            assert reply.status_code == 403
            return
        assert (reply.status_code, problem(reply).kind) == (410, "lease-lost"), reply.text
        task = self._task(lease)
        assert task.attempt != lease.attempt or task.state is not TaskState.LEASED

    def _answered(self, lease: Lease, work: Work, reply: httpx.Response) -> None:
        self._book.result(lease, work, reply)
        if reply.status_code in (403, 410):
            self._is_lost(lease, reply)
        elif reply.status_code == 422 and problem(reply).kind != "bad-update":
            assert problem(reply).kind == "invalid", reply.text
            needed = {sha256_hex(data) for data in work.files.values()}
            assert not needed <= self._world.run(whole_uploads(self._world.services, lease.task_id))

    def _start_upload(self, lease: Lease, purpose: str, data: bytes) -> dict[str, Any] | None:
        reply = lease.owner.agent.start_upload(lease.said, purpose, data)
        if reply.status_code != 201:
            self._is_lost(lease, reply)
            return None
        upload: dict[str, Any] = reply.json()
        self._book.offset(upload["id"], upload["offset"])
        return upload

    def _send(self, lease: Lease, purpose: str, data: bytes, to: int) -> None:
        """Send a part of a file, from where it stopped."""
        upload = self._start_upload(lease, purpose, data)
        if upload is None or upload["offset"] >= to:
            return
        reply = lease.owner.agent.send_chunk(lease.said, upload["id"], upload["offset"], data[upload["offset"] : to])
        assert reply.status_code == 204, reply.text
        self._book.append(upload["id"], to)
