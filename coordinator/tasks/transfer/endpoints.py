"""Endpoints for uploads in chunks and downloads by range."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from coordinator.database.numbers import read_number
from coordinator.errors import (
    BadChunk,
    LeaseLost,
    TooLarge,
    UploadsFull,
    WrongOffset,
)
from coordinator.tasks.lease_header import HolderDep
from coordinator.tasks.transfer import uploads
from coordinator.tasks.transfer.appending import Body, append
from coordinator.tasks.transfer.blob_access import find_readable
from coordinator.tasks.transfer.blob_replies import BLOB_REPLIES, TAKES_RANGE, blob_reply
from coordinator.tasks.transfer.found_uploads import find
from coordinator.web.authentication import AgentDep, CallerDep
from coordinator.web.deps import ServicesDep
from coordinator.web.limits.bodies import has_body, takes
from coordinator.web.reference.headers import CHUNK_BODY, answers, sends, takes_headers
from coordinator.web.reference.refusals import refuses
from coordinator.web.routes import BoundedRoute
from shared.bounds import MAX_INT
from shared.wire.base import CHUNK_BYTES, Sha256
from shared.wire.tasks.leases import UploadPurpose, UploadReply, UploadRequest

router = APIRouter(prefix="/v1", tags=["blobs"], route_class=BoundedRoute)

_OFFSET = answers("Upload-Offset", "Number of bytes received")
_DIGEST = sends("Content-Digest", "Digest of the chunk (RFC 9530).", "sha-256=:RK/0qy18…:")


async def _file_to_upload(
    purpose: Annotated[UploadPurpose, Query(description="What the file is to the task.")],
    sha256: Annotated[Sha256, Query(description="SHA-256 of the whole file.")],
    n_bytes: Annotated[int, Query(ge=1, le=MAX_INT, description="Size of the whole file, in bytes.")],
) -> UploadRequest:
    return UploadRequest(purpose=purpose, sha256=sha256, n_bytes=n_bytes)


@router.post(
    "/leases/{task_id}/uploads",
    status_code=201,
    responses={
        201: {"headers": answers("Location", "Where to send the next chunk")},
        **refuses(LeaseLost, TooLarge, UploadsFull, WrongOffset, BadChunk),
    },
    openapi_extra={**takes_headers(_DIGEST), "requestBody": {**CHUNK_BODY, "required": False}},
)
@takes(CHUNK_BYTES)
async def start_upload(
    asked: Annotated[UploadRequest, Depends(_file_to_upload)],
    task_id: str,
    request: Request,
    response: Response,
    services: ServicesDep,
    holder: HolderDep,
) -> UploadReply:
    """Begin the upload of a task's file, with its first chunk if there is a body; or get the offset at which to
    continue it.

    A body needs a Content-Digest (sha-256). It is ignored if the upload has bytes already: ask without a body where an
    earlier attempt may have sent some.
    """
    upload = await uploads.start(services, holder.claim_of(task_id), asked)
    response.headers["Location"] = f"/v1/uploads/{upload.id}"
    if upload.offset == 0:
        if has_body(request.headers):
            end = await append(services, holder, upload.id, 0, _chunk_of(request))
            upload = upload.model_copy(update={"offset": end})
    else:
        await _skip(request)
    return upload


def _chunk_of(request: Request) -> Body:
    """The chunk in a request's body. Raises BadChunk if it has no digest."""
    digest = request.headers.get("Content-Digest")
    if digest is None:
        raise BadChunk
    return Body(request.stream(), read_number(request.headers.get("Content-Length", "")), digest)


async def _skip(request: Request) -> None:
    """Read a body without keeping it, so that the reply arrives and the connection stays."""
    async for _ in request.stream():
        pass


@router.head("/uploads/{upload_id}", status_code=204, responses={204: {"headers": _OFFSET}})
async def upload_offset(upload_id: str, response: Response, services: ServicesDep, agent: AgentDep) -> None:
    """The number of bytes received of an upload, in Upload-Offset."""
    upload = await find(services, agent.id, upload_id)
    response.headers["Upload-Offset"] = str(upload.offset)


@router.patch(
    "/uploads/{upload_id}",
    status_code=204,
    responses={204: {"headers": _OFFSET}, **refuses(LeaseLost, WrongOffset, BadChunk, TooLarge)},
    openapi_extra={
        **takes_headers(
            sends("Upload-Offset", "Where in the file the chunk begins.", "8388608", required=True),
            {**_DIGEST, "required": True},
        ),
        "requestBody": CHUNK_BODY,
    },
)
@takes(CHUNK_BYTES)
async def append_chunk(
    upload_id: str, request: Request, response: Response, services: ServicesDep, holder: HolderDep
) -> None:
    """Append a chunk at Upload-Offset. Its Content-Digest (sha-256) must match."""
    offset = read_number(request.headers.get("Upload-Offset", ""))
    end = await append(services, holder, upload_id, -1 if offset is None else offset, _chunk_of(request))
    response.headers["Upload-Offset"] = str(end)


@router.delete("/uploads/{upload_id}", status_code=204, responses=refuses(LeaseLost))
async def delete_upload(upload_id: str, services: ServicesDep, holder: HolderDep) -> None:
    """Delete an upload. Only the task's current attempt may: a later attempt continues an earlier one's upload."""
    await uploads.withdraw(services, holder, upload_id)


@router.get(
    "/blobs/{sha256}",
    response_class=Response,
    responses=BLOB_REPLIES,
    openapi_extra=TAKES_RANGE,
)
async def get_blob(sha256: str, request: Request, services: ServicesDep, caller: CallerDep) -> Response:
    """A global adapter's bytes, or a range of them, for operators; what its live lease names, for an agent.

    A single client's update is read by aggregation and verification alone: it is refused to every caller. So is the
    algorithm's state to operators.
    """
    kind, ref = await find_readable(services, caller, sha256)
    return await blob_reply(services, kind, ref, request.headers.get("Range"))
