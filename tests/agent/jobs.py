"""Jobs of the training child, made by hand."""

from pathlib import Path
from typing import Any

from agent.configuration.settings import ComputeSettings
from agent.data.source import DataSource
from agent.orders.job import LocalJob
from agent.orders.jobs import EvaluateJob, InitJob, Job, PrepareJob, TrainJob
from tests.agent.parts import ADAPTER, FINGERPRINT
from tests.support.messages import with_training

_BASE: dict[str, Any] = {
    "campaign_id": "c1",
    "campaign_name": "small",
    "created_on": "2026-01-31",
    "training_kind": "sft",
    "kind_params": {},
    "base": {"model": "tiny"},
    "lora": {"rank": 2},
}


def init_job(**changes: Any) -> InitJob:
    return InitJob.model_validate({**_BASE, "fingerprint": FINGERPRINT, "seed": 1, **changes})


def prepare_job(**changes: Any) -> PrepareJob:
    plan = {"data": {"name": "notes"}, "algorithm": "fedavg", "plain_client": True}
    return PrepareJob.model_validate(with_training({**_BASE, **plan, **changes}, max_length=64, steps=5))


def train_job(**changes: Any) -> TrainJob:
    plan = {"data": {"name": "notes"}, "algorithm": "fedavg", "algorithm_params": {}, "round": 1, "client_number": 0}
    numbers: dict[str, Any] = {
        "rank": 2,
        "seed": 1,
        "steps": 5,
        "batch_size": 2,
        "max_length": 64,
        "learning_rate": 0.1,
    }
    plan["plain_client"] = True
    numbers |= {"state_versions": 2}
    raw = {**_BASE, "fingerprint": FINGERPRINT, **plan, **numbers, "adapter": ADAPTER, **changes}
    kept = {name: raw[name] for name in ("steps", "learning_rate")}
    return TrainJob.model_validate(with_training(raw) | kept)


def evaluate_job(**changes: Any) -> EvaluateJob:
    plan = {"data": {"name": "notes"}, "round": 1, "adapter": ADAPTER}
    raw = {**_BASE, "fingerprint": FINGERPRINT, **plan, **changes}
    return EvaluateJob.model_validate(with_training(raw, max_length=64, steps=5))


def local_job(folder: Path, job: Job | None = None, **compute: Any) -> LocalJob:
    return LocalJob(
        job=job or init_job(),
        folder=folder,
        cache=folder,
        model_path=None,
        data=DataSource(path=folder / "notes.jsonl"),
        adapter=None,
        broadcast=None,
        compute=ComputeSettings(**compute),
        micro_batch=4,
        remote_code=False,
    )
