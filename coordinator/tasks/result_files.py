"""The files of a result: found among the task's uploads, checked, and stored as blobs."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from coordinator.database.prepared import Prepared, given
from coordinator.database.tables import UploadRow
from coordinator.errors import BadUpdate, Invalid
from coordinator.services import Services
from coordinator.storage.stores import BlobStore
from coordinator.tasks.checks.update_checks import check_adapter_zero, check_parts, check_update
from coordinator.tasks.facts import CampaignFacts, TaskFacts
from shared.adapters.files import Contract
from shared.digest import sha256_file
from shared.states import BlobKind
from shared.wire.base import BlobRef
from shared.wire.tasks.results import InitResult, Result, TrainResult

_UPLOAD = Prepared(
    select(UploadRow.id, UploadRow.purpose, UploadRow.sha256, UploadRow.n_bytes, UploadRow.offset).where(
        UploadRow.task_id == given("task"), UploadRow.sha256 == given("sha256")
    )
)


@dataclass(frozen=True)
class Upload:
    """Columns of a completed upload."""

    id: str
    purpose: BlobKind
    sha256: str
    n_bytes: int
    offset: int

    @property
    def ref(self) -> BlobRef:
        """The blob that it becomes."""
        return BlobRef(sha256=self.sha256, n_bytes=self.n_bytes)


def files_of(result: Result) -> list[tuple[BlobKind, str]]:
    """The files of a result: what each is, and its digest."""
    if isinstance(result, InitResult):
        return [(BlobKind.ADAPTER, result.adapter)]
    if isinstance(result, TrainResult):
        extras = [(BlobKind.EXTRAS, result.extras)] if result.extras is not None else []
        return [(BlobKind.DELTA, result.delta), *extras]
    return []


async def find_upload(services: Services, task: TaskFacts, purpose: BlobKind, sha256: str) -> Upload:
    """The task's completed upload with a digest. Raises Invalid."""
    found = await services.database.ask(_UPLOAD, task=task.id, sha256=sha256)
    upload = next((Upload(*columns) for columns in found), None)
    if upload is None or upload.purpose is not purpose:
        raise Invalid((purpose.value, f"{sha256} was not uploaded for this task; upload it first"))
    if upload.offset != upload.n_bytes:
        raise Invalid((purpose.value, f"{upload.offset} of {upload.n_bytes} bytes were uploaded; send the rest first"))
    return upload


async def check_and_store(
    services: Services, campaign: CampaignFacts, upload: Upload, expected: Contract | None
) -> Contract | None:
    """Check an upload and store it as a blob. Returns the contract if it is adapter 0. Raises BadUpdate.

    Args:
        services: database and storage.
        campaign: what an adapter 0 must fit.
        upload: a completed upload.
        expected: the contract of the file; None for adapter 0.
    """
    store = services.storage.store_of(upload.purpose)
    ref = upload.ref
    try:
        async with services.storage.staging.as_file(upload.id, services.storage.scratch) as path:
            known = services.storage.staging.known_digest(upload.id, upload.n_bytes)
            return await _check_and_put(store, path, known, ref, expected, campaign)
    except FileNotFoundError as error:
        if not await store.has(ref.sha256):
            raise replaced(upload.purpose, upload.sha256) from error
    async with store.as_file(ref, services.storage.scratch) as path:  # an earlier try died before it committed
        if path.stat().st_size != ref.n_bytes:  # equal bytes of somebody else
            raise BadUpdate(f"the file with this digest has {path.stat().st_size} bytes, not {ref.n_bytes}")
        return await asyncio.to_thread(_check_file, path, expected, campaign)


def replaced(purpose: BlobKind, sha256: str) -> Invalid:
    """The error of a result whose upload went while it was checked."""
    return Invalid((purpose.value, f"the upload of {sha256} was replaced or deleted meanwhile; upload it again"))


async def _check_and_put(
    store: BlobStore,
    path: Path,
    known_sha256: str | None,
    ref: BlobRef,
    expected: Contract | None,
    campaign: CampaignFacts,
) -> Contract | None:
    sha256 = known_sha256 or await asyncio.to_thread(sha256_file, path)
    if sha256 != ref.sha256:
        message = f"the uploaded bytes have the digest {sha256}, not {ref.sha256}"
        raise BadUpdate(message)
    contract = await asyncio.to_thread(_check_file, path, expected, campaign)
    await store.put(path, ref)
    return contract


def _check_file(path: Path, expected: Contract | None, campaign: CampaignFacts) -> Contract | None:
    if expected is None:
        contract = check_adapter_zero(path, campaign.spec.lora)
        check_parts(contract, campaign.spec)
        return contract
    check_update(path, expected)
    return None
