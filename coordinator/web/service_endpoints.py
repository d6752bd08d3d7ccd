"""The coordinator itself: health, algorithms, storage."""

from fastapi import APIRouter, Response
from sqlalchemy import func, select, text

from coordinator import __version__
from coordinator.database.tables import BlobUseRow
from coordinator.web.authentication import OperatorDep
from coordinator.web.deps import ReadSession, ServicesDep
from shared import algorithms
from shared.wire.base import Page
from shared.wire.service import AlgorithmView, Health, StorageView

router = APIRouter(tags=["service"])


@router.get("/healthz")
async def healthz() -> Health:
    """Whether the process answers."""
    return Health(status="ok", version=__version__)


@router.get("/readyz", responses={503: {"model": Health}})
async def readyz(services: ServicesDep, response: Response) -> Health:
    """Whether the database answers too."""
    try:
        async with services.database.read() as session:
            await session.execute(text("SELECT 1"))
    except Exception as error:  # noqa: BLE001 - any error means "not ready"
        response.status_code = 503
        return Health(status="unavailable", version=__version__, reason=type(error).__name__)
    return Health(status="ok", version=__version__)


@router.get("/v1/algorithms")
async def list_algorithms(_: OperatorDep) -> Page[AlgorithmView]:
    """The algorithms that campaigns can name, with the JSON Schema of their parameters."""
    views = [
        AlgorithmView(
            name=algorithm.name,
            summary=algorithm.summary,
            params_schema=algorithm.params.model_json_schema(),
            state=list(algorithm.server.state),
            broadcast=list(algorithm.server.broadcast),
            extras=list(algorithm.client.extras),
            mixes_ranks=algorithm.server.mixes_ranks,
            client_state=list(algorithm.client.state),
        )
        for algorithm in algorithms.usable()
    ]
    return Page(items=views)


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
