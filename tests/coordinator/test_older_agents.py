"""Agents of one protocol version before this one: they go on working; older ones are told to upgrade."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import pytest
from pydantic import BaseModel

from shared.digest import content_digest_header, sha256_hex
from shared.wire.base import OLDEST_PROTOCOL_VERSION, PROTOCOL_VERSION
from tests.support import protocol_1 as v1
from tests.support.driven import delta_of
from tests.support.operator import Operator
from tests.support.scripted import FINGERPRINT, adapter_bytes, campaign_body, slots_bytes
from tests.support.tiers import deep

M = TypeVar("M", bound=BaseModel)
_SOME_BYTES = 100


class OlderAgent:
    """Speaks version 1: sends what its models make, and reads whatever comes with its models."""

    def __init__(self, url: str, token: str, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.http = httpx.Client(base_url=url, headers={v1.PROTOCOL_HEADER: "1"}, timeout=30, verify=False)
        body = v1.EnrollmentRequest(token=token, name=name, version="0.1.0")
        identity = self.call("POST", "/v1/enrollments", v1.EnrollmentReply, body)
        self.http.headers["Authorization"] = f"Bearer {identity.secret}"
        self.instance_id = uuid4().hex
        self.done: list[str] = []

    def send(self, method: str, path: str, body: BaseModel | None = None, **headers: str) -> httpx.Response:
        sent = {"Content-Type": "application/json", **headers}
        content = body.model_dump_json() if body is not None else None
        reply = self.http.request(method, path, content=content, headers=sent)
        assert reply.is_success, reply.text
        assert v1.PROTOCOL_HEADER in reply.headers
        return reply

    def call(self, method: str, path: str, model: type[M], body: BaseModel | None = None, **headers: str) -> M:
        return model.model_validate_json(self.send(method, path, body, **headers).content)

    def acquire(self, wait_s: float = 10) -> v1.TaskLease | None:
        body = v1.LeaseRequest(instance_id=self.instance_id, version="0.1.0")
        reply = self.send("POST", "/v1/leases", body, Prefer=f"wait={wait_s:g}")
        return v1.TaskLease.model_validate_json(reply.content) if reply.status_code == 201 else None

    def work(self) -> None:
        """Do the next task."""
        lease = self.acquire()
        assert lease is not None, f"{self.name} has nothing to do after {self.done}"
        path, claim = f"/v1/leases/{lease.task_id}", {v1.LEASE_HEADER: f"{lease.attempt}.{lease.token}"}
        progress = v1.Progress(phase=v1.Phase.TRAINING, done=1, total=2, loss=1.5, tokens_per_s=10.0)
        renewed = self.call("PATCH", path, v1.RenewReply, v1.RenewRequest(progress=progress), **claim)
        assert renewed.directive is v1.Directive.CONTINUE
        result = self.result_of(lease, path, claim)
        self.send("PUT", f"{path}/result", result, **claim)
        self.done.append(lease.job.kind)

    def result_of(self, lease: v1.TaskLease, path: str, claim: dict[str, str]) -> BaseModel:
        job = lease.job
        if isinstance(job, v1.PrepareJob):
            fingerprint = v1.Fingerprint.model_validate(FINGERPRINT)
            return v1.PrepareResult(fingerprint=fingerprint, n_train=10, n_held_out=5, dropped=1)
        if isinstance(job, v1.InitJob):
            return v1.InitResult(adapter=self.upload(path, claim, v1.BlobKind.ADAPTER, adapter_bytes(self.folder)))
        self.download(job.adapter)
        if isinstance(job, v1.EvaluateJob):
            accuracy = 0.5 if job.training_kind == "dpo" else None
            return v1.EvaluateResult(loss=2.0, n_rows=5, n_tokens=100, accuracy=accuracy)
        extras = None
        if job.algorithm == "scaffold":
            if job.broadcast is not None:
                self.download(job.broadcast)
            data = slots_bytes(self.folder, 0.5, "delta_c")
            extras = self.upload(path, claim, v1.BlobKind.EXTRAS, data)
        delta = adapter_bytes(self.folder, **delta_of(self.name, job.round))
        numbers = {"steps": job.steps, "loss_first": 2.0, "loss_last": 1.0, "loss_mean": None, "tokens": 10}
        metrics = v1.TrainMetrics(**numbers, seconds=1.0, tokens_per_s=10.0, peak_memory_bytes=0)
        digest = self.upload(path, claim, v1.BlobKind.DELTA, delta)
        return v1.TrainResult(delta=digest, extras=extras, metrics=metrics)

    def upload(self, path: str, claim: dict[str, str], purpose: v1.BlobKind, data: bytes) -> str:
        """In two chunks, asking in between how much is there."""
        body = v1.UploadRequest(purpose=purpose, sha256=sha256_hex(data), n_bytes=len(data))
        upload = self.call("POST", f"{path}/uploads", v1.UploadReply, body, **claim)
        assert (upload.offset, upload.n_bytes) == (0, len(data))
        target, offset = f"/v1/uploads/{upload.id}", 0
        for chunk in (data[:_SOME_BYTES], data[_SOME_BYTES:]):
            headers = {"Upload-Offset": str(offset), "Content-Digest": content_digest_header(chunk)}
            reply = self.http.patch(target, content=chunk, headers={**claim, **headers})
            assert reply.is_success, reply.text
            offset = int(reply.headers["Upload-Offset"])
            assert self.http.head(target, headers=claim).headers["Upload-Offset"] == str(offset)
        return sha256_hex(data)

    def download(self, blob: v1.BlobRef) -> None:
        """A part, and the rest."""
        url = f"/v1/blobs/{blob.sha256}"
        first = self.http.get(url).content[:_SOME_BYTES]
        rest = self.http.get(url, headers={"Range": f"bytes={_SOME_BYTES}-"})
        assert rest.status_code == 206
        assert (sha256_hex(first + rest.content), len(first + rest.content)) == (blob.sha256, blob.n_bytes)


@pytest.fixture
def older(operator: Operator, tmp_path: Path) -> Iterator[Callable[[str], OlderAgent]]:
    made: list[OlderAgent] = []

    def make(name: str) -> OlderAgent:
        made.append(OlderAgent(str(operator.http.base_url), operator.token(), name, tmp_path))
        return made[-1]

    yield make
    for agent in made:
        agent.http.close()


EVERYTHING: dict[str, Any] = {
    "base": {"model": "tiny", "revision": "main"},
    "lora": {"rank": 2, "alpha": 3.0, "dropout": 0.1, "target_modules": ["q_proj"]},
    "training": {"epochs": 1.5, "batch_size": 2, "min_learning_rate": 1e-6, "optimizer": "sgd", "max_grad_norm": None},
    "data": {"name": "notes", "template": "alpaca"},
    "stragglers": {"late_updates": "next_round", "under_minimum": "replace", "set_aside_after": 2},
    "retention": {"server_state": 3},
    "evaluation": {"every": 1},
    "rounds": 2,
}


@pytest.mark.parametrize(("kind", "algorithm"), [deep("sft", "fedprox"), ("dpo", "scaffold")])
@pytest.mark.usefixtures("coordinator")
def test_agents_of_version_1_do_a_whole_campaign(
    operator: Operator, older: Callable[[str], OlderAgent], kind: str, algorithm: str
) -> None:
    assert OLDEST_PROTOCOL_VERSION == 1
    ada, bob = older("ada"), older("bob")
    body = campaign_body(kind=kind, algorithm={"name": algorithm}, dpo={"beta": 0.2}, **EVERYTHING)
    campaign_id = operator.post("/v1/campaigns", body)["id"]
    for agent in (ada, bob):
        agent.work()
    ada.work()
    for _ in range(5):  # evaluate, and for each round train and evaluate
        for agent in (ada, bob):
            agent.work()
    operator.wait_for(campaign_id, "completed")
    assert sorted(ada.done) == sorted(["init", *bob.done])
    assert sorted(bob.done) == ["evaluate"] * 3 + ["prepare"] + ["train"] * 2
    shares = [len(operator.get(f"/v1/campaigns/{campaign_id}/adapters/{number}")["contributions"]) for number in (1, 2)]
    assert shares == [2, 2]


@pytest.mark.usefixtures("coordinator")
def test_what_else_an_agent_of_version_1_may_say(operator: Operator, older: Callable[[str], OlderAgent]) -> None:
    ada, bob = older("ada"), older("bob")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    lease = ada.acquire()
    assert lease is not None
    path, claim = f"/v1/leases/{lease.task_id}", {v1.LEASE_HEADER: f"{lease.attempt}.{lease.token}"}
    ada.call("PATCH", path, v1.RenewReply, v1.RenewRequest(), **claim)
    ada.send("DELETE", path, **claim)
    gone = v1.Problem.model_validate_json(ada.http.patch(path, json={"progress": None}, headers=claim).content)
    assert gone.type == "urn:fedloom:problem:lease-lost"
    for agent, kind in zip((ada, bob), ("data", "refused-by-policy"), strict=True):
        lease = agent.acquire()
        assert lease is not None
        failure = v1.Failure(kind=v1.FailureKind(kind), message="no")
        claim = {v1.LEASE_HEADER: f"{lease.attempt}.{lease.token}"}
        agent.send("PUT", f"/v1/leases/{lease.task_id}/failure", failure, **claim)
    operator.wait_for(campaign_id, "paused")
    secret = ada.send("POST", "/v1/agents/me/secret").json()["secret"]
    ada.http.headers["Authorization"] = f"Bearer {secret}"
    assert ada.acquire(wait_s=0) is None


@pytest.mark.usefixtures("coordinator")
def test_older_agents_than_that_are_told_to_upgrade(older: Callable[[str], OlderAgent]) -> None:
    ada = older("ada")
    body = {"instance_id": ada.instance_id, "version": "0.0.1"}
    for version in ("0", str(OLDEST_PROTOCOL_VERSION - 1)):
        reply = ada.http.post("/v1/leases", json=body, headers={v1.PROTOCOL_HEADER: version})
        problem = v1.Problem.model_validate_json(reply.content)
        assert (reply.status_code, problem.type) == (426, "urn:fedloom:problem:agent-too-old")
        assert "upgrade fedloom" in problem.detail
        assert reply.headers[v1.PROTOCOL_HEADER] == str(PROTOCOL_VERSION)
