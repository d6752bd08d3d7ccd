"""Updates that violate the contract: refused with the tensor and the reason; the round continues without them."""

import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from shared.adapters.files import Contract, TensorSpec, write_adapter
from shared.digest import sha256_hex
from tests.support.operator import Operator, problem
from tests.support.scripted import (
    ScriptedAgent,
    adapter_bytes,
    campaign_body,
    safetensors_bytes,
    stretched,
    with_header,
)

Enroll = Callable[..., ScriptedAgent]
Tensors = dict[str, tuple[str, tuple[int, ...], bytes]]

pytestmark = pytest.mark.usefixtures("coordinator")

A, B = "q.lora_A.weight", "q.lora_B.weight"
SHAPES = {A: (2, 64), B: (64, 2)}


def tensors(dtype: str = "F32", **changes: tuple[str, tuple[int, ...], bytes]) -> Tensors:
    width = 4 if dtype == "F32" else 2
    good = {name: (dtype, shape, bytes(width * math.prod(shape))) for name, shape in SHAPES.items()}
    return {**good, **{name.replace("_dot_", "."): value for name, value in changes.items()}}


def with_value(value: float) -> Tensors:
    data = struct.pack("<f", value) + bytes(4 * 127)
    return {**tensors(), B: ("F32", SHAPES[B], data)}


def lying_offsets(begin: int, end: int) -> bytes:
    header = {
        A: {"dtype": "F32", "shape": [2, 64], "data_offsets": [0, 512]},
        B: {"dtype": "F32", "shape": [64, 2], "data_offsets": [begin, end]},
    }
    return with_header(header, bytes(1024))


def sized(data: bytes) -> bytes:
    """The file in the size that the contract gives an update."""
    return stretched(data, UPDATE_BYTES)


GOOD = safetensors_bytes(tensors())
UPDATE_BYTES = Contract.of({name: TensorSpec("F32", shape) for name, shape in SHAPES.items()}).file_bytes
BAD: dict[str, tuple[bytes, str, str]] = {
    "missing tensor": (safetensors_bytes({A: tensors()[A]}), B, "missing"),
    "extra tensor": (safetensors_bytes({**tensors("F16"), "extra": ("F16", (1,), b"ab")}), "extra", "not part of"),
    "wrong shape": (safetensors_bytes({**tensors(), B: ("F32", (2, 64), bytes(512))}), B, "shape [2, 64]"),
    "wrong dtype": (safetensors_bytes({**tensors(), A: ("BF16", (2, 64), bytes(256))}), A, "dtype BF16"),
    "NaN": (safetensors_bytes(with_value(math.nan)), B, "NaN"),
    "infinity": (safetensors_bytes(with_value(-math.inf)), B, "infinity"),
    "truncated": (GOOD[:-4], B, "4 bytes before"),
    "bytes after the end": (safetensors_bytes(tensors("F16"), tail=b"more"), "", "4 bytes follow"),
    "header that claims too much": (with_header({}, bytes(100), claimed_bytes=1 << 40), "", "header claims"),
    "header that claims too little": (with_header({A: {}}, bytes(100), claimed_bytes=3), "", "not JSON"),
    "no header": (b"", "", "not JSON"),
    "overlapping offsets": (lying_offsets(256, 768), B, "overlaps"),
    "hole": (lying_offsets(516, 1028), B, "hole"),
    "size that does not match the shape": (lying_offsets(512, 1020), B, "needs 512"),
}


@pytest.mark.deep
def test_each_bad_update_is_refused_and_the_round_goes_on(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    bad = {enroll(f"bad-{number:02}"): case for number, case in enumerate(BAD)}
    liar, good, better = enroll("liar"), enroll("x-good"), enroll("y-good")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    everybody = [*bad, liar, good, better]
    for agent in everybody:
        agent.prepare()
    everybody[0].init(GOOD)
    for agent, case in bad.items():
        data, tensor, reason = BAD[case]
        lease = agent.lease("train")
        reply = agent.result(lease, agent.train_result(agent.upload(lease, "delta", sized(data))))
        assert (reply.status_code, problem(reply).kind, problem(reply).retryable) == (422, "bad-update", False), case
        assert problem(reply).detail.startswith(tensor), case
        assert reason in problem(reply).detail, (case, problem(reply).detail)
        assert agent.renew(lease).status_code == 410, case
    lease = liar.lease("train")
    good_bytes = sized(GOOD)
    upload_id = liar.start_upload(lease, "delta", good_bytes).json()["id"]
    assert liar.send_chunk(lease, upload_id, 0, good_bytes[:-1] + b"\x01").status_code == 204
    reply = liar.result(lease, liar.train_result(sha256_hex(good_bytes)))
    assert (reply.status_code, problem(reply).kind) == (422, "bad-update")
    assert "digest" in problem(reply).detail
    good.train(sized(safetensors_bytes(with_value(1.0))))
    better.train(sized(safetensors_bytes(with_value(3.0))))
    campaign = operator.wait_for(campaign_id, "completed")
    assert campaign["rounds_closed"] == 1
    adapter = operator.items(f"/v1/campaigns/{campaign_id}/adapters")[1]
    assert [share["agent_name"] for share in adapter["contributions"]] == ["x-good", "y-good"]
    events = operator.items(f"/v1/campaigns/{campaign_id}/events")
    failures = [event["data"] for event in events if event["type"] == "task-failed"]
    assert [each["failure"] for each in failures] == ["bad-update"] * (len(BAD) + 1)
    assert operator.items(f"/v1/campaigns/{campaign_id}/tasks", state="failed")[0]["failure"]["kind"] == "bad-update"
    assert set(operator.get("/v1/storage")["bytes_by_kind"]) == {"adapter"}


def test_a_bad_update_is_replaced_by_another_client(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    agents = [enroll(name) for name in ("ada", "bob", "cyd")]
    selection = {"minimum": 2, "clients_per_round": 2}
    campaign_id = operator.post("/v1/campaigns", campaign_body(selection=selection))["id"]
    for agent in agents:
        agent.prepare()
    agents[0].init(GOOD)
    operator.wait_for(campaign_id, "running")
    sampled = operator.items(f"/v1/campaigns/{campaign_id}/rounds")[0]["sampled"]
    spare = ({0, 1, 2} - set(sampled)).pop()
    lease = agents[sampled[0]].lease("train")
    digest = agents[sampled[0]].upload(lease, "delta", sized(BAD["NaN"][0]))
    assert agents[sampled[0]].result(lease, agents[0].train_result(digest)).status_code == 422
    agents[sampled[1]].train(sized(GOOD))
    agents[spare].train(sized(GOOD))
    operator.wait_for(campaign_id, "completed")
    assert "client-replaced" in operator.events(campaign_id)


ZERO = np.zeros
BAD_ADAPTERS: dict[str, tuple[bytes | dict[str, np.ndarray], str]] = {
    "not LoRA": ({"model.q.weight": ZERO((2, 2), np.float32)}, "not a LoRA factor"),
    "wrong rank of A": ({A: ZERO((3, 8), np.float32), B: ZERO((8, 2), np.float32)}, "rank 2"),
    "wrong rank of B": ({A: ZERO((2, 8), np.float32), B: ZERO((8, 3), np.float32)}, "rank 2"),
    "one dimension": ({A: ZERO((2,), np.float32), B: ZERO((8, 2), np.float32)}, "rank 2"),
    "one factor": ({A: ZERO((2, 8), np.float32)}, "factor B is missing"),
    "F16": (safetensors_bytes(tensors("F16")), "dtype F16"),
    "NaN": (safetensors_bytes(with_value(math.nan)), "NaN"),
    "trained already": (
        {A: ZERO((2, 8), np.float32), B: np.full((8, 2), 1e-6, np.float32)},
        "factor B of adapter 0 must",
    ),
    "huge": ({A: np.full((2, 8), 3e38, np.float32), B: ZERO((8, 2), np.float32)}, "beyond ±1000, which"),
    "huge and negative": ({A: np.full((2, 8), -1001, np.float32), B: ZERO((8, 2), np.float32)}, "beyond ±1000, which"),
    "no tensors": (with_header({}, b""), "no tensors"),
}


def test_a_bad_adapter_0_is_refused_and_another_client_makes_it(
    operator: Operator, enroll: Enroll, tmp_path: Path
) -> None:
    bad = {enroll(f"bad-{number:02}"): case for number, case in enumerate(BAD_ADAPTERS)}
    good = enroll("good")
    campaign_id = operator.post("/v1/campaigns", campaign_body())["id"]
    for agent in (*bad, good):
        agent.prepare()
    for agent, case in bad.items():
        data, reason = BAD_ADAPTERS[case]
        if isinstance(data, dict):
            write_adapter(tmp_path / "bad", data)
            data = (tmp_path / "bad").read_bytes()
        lease = agent.lease("init")
        reply = agent.result(lease, {"kind": "init", "adapter": agent.upload(lease, "adapter", data)})
        assert (reply.status_code, problem(reply).kind) == (422, "bad-update"), case
        assert reason in problem(reply).detail, case
    good.init(adapter_bytes(tmp_path))
    operator.wait_for(campaign_id, "running")
    assert operator.items(f"/v1/campaigns/{campaign_id}/adapters")[0]["parent_sha256"] is None


def test_a_header_longer_than_the_tensors_need_is_not_read(operator: Operator, enroll: Enroll, tmp_path: Path) -> None:
    """Of an update the contract says how long; of adapter 0 there is a limit for all."""
    ada, bob = enroll("ada"), enroll("bob")
    operator.post("/v1/campaigns", campaign_body())
    for agent in (ada, bob):
        agent.prepare()
    many = {f"m{n}.lora_{f}.weight": {"dtype": "F32"} for n in range(70_000) for f in "AB"}
    lease = ada.lease("init")
    long_one = with_header(many, b"")
    reply = ada.result(lease, {"kind": "init", "adapter": ada.upload(lease, "adapter", long_one)})
    assert problem(reply).detail == f"the header has {len(long_one) - 8} bytes; at most 4194304 are read here"
    write_adapter(tmp_path / "wide", {A: ZERO((2, 4000), np.float32), B: ZERO((4000, 2), np.float32)})
    wide = (tmp_path / "wide").read_bytes()
    bob.init(wide)
    lease = bob.lease("train")
    blanks = with_header({}, b"", claimed_bytes=len(wide) - 8)
    reply = bob.result(lease, bob.train_result(bob.upload(lease, "delta", blanks + b" " * (len(wide) - len(blanks)))))
    assert problem(reply).detail.startswith(f"the header has {len(wide) - 8} bytes; at most 4")
