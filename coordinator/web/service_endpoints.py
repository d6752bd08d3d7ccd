"""The coordinator itself: health, algorithms, storage."""

from fastapi import APIRouter, Request, Response
from sqlalchemy import func, select, text

from coordinator import __version__
from coordinator.database.tables import BlobUseRow
from coordinator.errors import DatabaseAway, TooManyRequests
from coordinator.services import Services
from coordinator.web.authentication import REFUSALS, OperatorDep, identify
from coordinator.web.deps import Cursor, Limit, ReadSession, ServicesDep
from coordinator.web.limits.admission import Admission, host_of
from coordinator.web.paging import cut_page
from coordinator.web.routes import BoundedRoute
from shared import algorithms
from shared.wire.base import Page
from shared.wire.service import AlgorithmView, Health, StorageView

router = APIRouter(tags=["service"], route_class=BoundedRoute)


@router.head("/healthz", include_in_schema=False)  # monitors and load balancers ask without wanting the body
@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process answers. The database is not asked."""
    return Health(status="ok")


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", responses={503: {"model": Health}})
async def readyz(request: Request, services: ServicesDep, response: Response) -> Health:
    """Whether the database answers too. A caller with a valid key is told the version."""
    one_at_a_time = request.app.state.admission.probing  # whoever asks, however often, holds one connection
    try:
        async with one_at_a_time, services.database.read() as session:
            await session.execute(text("SELECT 1"))
    except Exception as error:  # noqa: BLE001 - any error means "not ready"
        response.status_code = 503
        words = "the database is not available" if isinstance(error, DatabaseAway) else type(error).__name__
        return Health(status="unavailable", reason=words)
    # the version would tell strangers which faults to try
    return Health(status="ok", version=__version__ if await _has_valid_key(request, services) else None)


async def _has_valid_key(request: Request, services: Services) -> bool:
    """Whether a caller who is answered in any case has a valid key. A wrong one counts as a refused request.

    After too many of those no key from that address is looked up.
    """
    admission: Admission = request.app.state.admission
    authorization = request.headers.get("Authorization", "")
    if not authorization:
        return False
    try:
        admission.check_address(host_of(request))
        await identify(services, admission, authorization)
    except TooManyRequests:
        return False
    except REFUSALS:
        admission.note_refused(host_of(request))
        return False
    return True


@router.get("/v1/algorithms")
async def list_algorithms(_: OperatorDep, limit: Limit = 100, cursor: Cursor = None) -> Page[AlgorithmView]:
    """The algorithms that campaigns can name, with the JSON Schema of their parameters."""
    usable = algorithms.usable()
    shown, after = cut_page(usable, lambda algorithm: algorithm.name, "algorithms", cursor, limit)
    views = [
        AlgorithmView(
            name=algorithm.name,
            summary=algorithm.summary,
            params_schema=algorithm.params.model_json_schema(),
            state=list(algorithm.server.state),
            broadcast=list(algorithm.server.broadcast),
            extras=list(algorithm.client.extras),
            mixes_ranks=algorithm.server.mixes_ranks,
            needs_exact_updates=algorithm.needs_exact_updates,
            client_state=list(algorithm.client.state),
        )
        for algorithm in shown
    ]
    return Page(items=views, next_cursor=after)


@router.get("/v1/storage")
async def show_storage(session: ReadSession, services: ServicesDep, _: OperatorDep) -> StorageView:
    """Bytes stored, by kind, and free space."""
    used = select(BlobUseRow.kind, BlobUseRow.sha256, BlobUseRow.n_bytes).where(BlobUseRow.stored)
    blobs = used.distinct().subquery()
    totals = await session.execute(select(blobs.c.kind, func.count(), func.sum(blobs.c.n_bytes)).group_by(blobs.c.kind))
    rows = totals.all()
    return StorageView(
        n_blobs=sum(count for _, count, _ in rows),
        n_bytes=sum(int(total) for _, _, total in rows),
        bytes_by_kind={kind.value: int(total) for kind, _, total in rows},
        free_bytes=services.storage.free_bytes,
    )
