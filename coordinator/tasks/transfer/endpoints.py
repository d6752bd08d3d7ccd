"""Endpoints for uploads in chunks and downloads by range."""

from fastapi import APIRouter, Request, Response

from coordinator.database.numbers import read_number
from coordinator.errors import (
    BadChunk,
    LeaseLost,
    TooLarge,
    UploadsFull,
    WrongOffset,
)
from coordinator.tasks.lease_header import ClaimDep, HolderDep
from coordinator.tasks.transfer import uploads
from coordinator.tasks.transfer.blob_access import find_readable
from coordinator.tasks.transfer.blob_replies import BLOB_REPLIES, TAKES_RANGE, blob_reply
from coordinator.web.authentication import AgentDep, CallerDep
from coordinator.web.deps import ServicesDep
from coordinator.web.limits.bodies import takes
from coordinator.web.reference.headers import CHUNK_BODY, answers, sends, takes_headers
from coordinator.web.reference.refusals import refuses
from coordinator.web.routes import BoundedRoute
from shared.wire.base import CHUNK_BYTES
from shared.wire.tasks.leases import UploadReply, UploadRequest

router = APIRouter(prefix="/v1", tags=["blobs"], route_class=BoundedRoute)

_OFFSET = answers("Upload-Offset", "Number of bytes received")


@router.post(
    "/leases/{task_id}/uploads",
    status_code=201,
    responses={
        201: {"headers": answers("Location", "Where to send the chunks")},
        **refuses(LeaseLost, TooLarge, UploadsFull),
    },
)
@takes(4 << 10)
async def start_upload(body: UploadRequest, claim: ClaimDep, response: Response, services: ServicesDep) -> UploadReply:
    """Begin the upload of a task's file, or get the offset at which to continue it."""
    upload = await uploads.start(services, claim, body)
    response.headers["Location"] = f"/v1/uploads/{upload.id}"
    return upload


@router.head("/uploads/{upload_id}", status_code=204, responses={204: {"headers": _OFFSET}})
async def upload_offset(upload_id: str, response: Response, services: ServicesDep, agent: AgentDep) -> None:
    """The number of bytes received of an upload, in Upload-Offset."""
    upload, _ = await uploads.find(services, agent.id, upload_id)
    response.headers["Upload-Offset"] = str(upload.offset)


@router.patch(
    "/uploads/{upload_id}",
    status_code=204,
    responses={204: {"headers": _OFFSET}, **refuses(LeaseLost, WrongOffset, BadChunk, TooLarge)},
    openapi_extra={
        **takes_headers(
            sends("Upload-Offset", "Where in the file the chunk begins.", "8388608", required=True),
            sends("Content-Digest", "Digest of the chunk (RFC 9530).", "sha-256=:RK/0qy18…:", required=True),
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
    digest = request.headers.get("Content-Digest")
    if digest is None:
        raise BadChunk
    end = await uploads.append(
        services, holder, upload_id, -1 if offset is None else offset, await request.body(), digest
    )
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
