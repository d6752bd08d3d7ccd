"""Assembles the application: services, background work, routers, error handlers."""

import asyncio
import logging
from collections.abc import AsyncIterator, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import cache, partial
from typing import Any

from fastapi import FastAPI
from sqlalchemy import func, select

from coordinator.agents import adapter_endpoints as own_adapters
from coordinator.agents import endpoints as agents
from coordinator.campaigns import adapter_endpoints as adapters
from coordinator.campaigns import endpoints as campaigns
from coordinator.campaigns import record_endpoints as records
from coordinator.campaigns import verification_endpoints as verifications
from coordinator.clock import Clock, SystemClock
from coordinator.database.sessions import Database
from coordinator.database.tables import CampaignRow, EventRow
from coordinator.engine.loop import Engine
from coordinator.engine.sweeper import Sweeper, keep_log_clear
from coordinator.events import endpoints as events
from coordinator.notifications.replicas import follow_replicas
from coordinator.presence import keep_last_seen, write_last_seen
from coordinator.process.threads import one_blas_thread
from coordinator.services import Services
from coordinator.settings import Settings
from coordinator.signing import endpoints as signatures
from coordinator.signing.signer import Signer
from coordinator.storage.data_folder import open_data_folder
from coordinator.storage.storage import Storage
from coordinator.tasks import endpoints as tasks
from coordinator.tasks.transfer import endpoints as transfers
from coordinator.tasks.work_poller import poll_for_work
from coordinator.web import problems, service_endpoints
from coordinator.web.limits.admission import Admission
from coordinator.web.middleware import ProtocolApp
from coordinator.web.reference import endpoints as reference
from coordinator.web.reference.document import openapi_document

log = logging.getLogger(__name__)

ROUTERS = [
    module.router
    for module in (
        *(service_endpoints, agents, own_adapters, signatures, campaigns, records, adapters, verifications, events),
        tasks,
        transfers,
    )
]
"""All endpoints of the API."""

_CLOCK_TOLERANCE = timedelta(seconds=5)
"""Difference between the clocks of several machines that is ignored."""


def create_services(settings: Settings, clock: Clock | None = None) -> Services:
    """Open the database and the data folder, which becomes private. The schema must exist: see ``database.migrate``.

    Raises OSError if the folder cannot be used.
    """
    open_data_folder(settings.data_dir)
    clock = clock or SystemClock()
    database = Database(settings.database, connections=settings.database_connections)
    storage = Storage(database, settings.data_dir, updates=settings.storage.updates)
    return Services(
        settings=settings,
        clock=clock,
        database=database,
        storage=storage,
        # one more than the rounds that are aggregated at once: a verification never keeps a round waiting for a thread
        aggregations=ThreadPoolExecutor(settings.engine.campaigns_at_once + 1, "aggregation", one_blas_thread),
        signer=Signer(settings, clock),
    )


def create_app(services: Services, *, with_engine: bool) -> FastAPI:
    """The REST service, with or without the engine in the same process."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await advance_clock(services)
        async with services.database.write("signing key") as session:
            await services.signer.open(session)
        services.up_since = services.clock.now()
        work = [poll_for_work(services), keep_last_seen(services), *replica_work(services)]
        work += engine_work(services) if with_engine else [keep_log_clear(services)]
        async with running(services, work):
            yield
        await write_last_seen(services)
        await services.close()

    app = ProtocolApp(
        openapi_url=None,  # web.reference serves it
        lifespan=lifespan,
        redirect_slashes=False,  # a redirect would lead to whatever host the request names
    )
    app.state.services = services
    app.state.admission = Admission(services.settings.limits)
    problems.install(app)
    for router in (*ROUTERS, reference.router):
        # not by include_router: each app would build all routes again, and match every request twice
        app.router.routes.extend(router.routes)
    app.openapi = cache(partial(openapi_document, ROUTERS))  # type: ignore[method-assign]
    return app


async def advance_clock(services: Services) -> None:
    """Advance the clock to the newest event in the database if the machine's clock is behind it.

    Otherwise deadlines, leases and claims would last longer by the time that the clock was set back.
    """
    newest = select(func.max(EventRow.at)).join(
        CampaignRow, (CampaignRow.id == EventRow.campaign_id) & (CampaignRow.last_event == EventRow.number)
    )
    async with services.database.read() as session:
        seen_at = await session.scalar(newest)
    behind = (seen_at - services.clock.now()) if seen_at is not None else timedelta(0)
    if seen_at is not None and behind > _CLOCK_TOLERANCE:
        log.warning(
            "this machine's clock is %s behind the newest event in the database; time continues from that event", behind
        )
        services.clock.not_before(seen_at)


def engine_work(services: Services) -> list[Coroutine[Any, Any, None]]:
    """The background coroutines of a process with an engine."""
    return [Engine(services).run(), Sweeper(services).run()]


def replica_work(services: Services) -> list[Coroutine[Any, Any, None]]:
    """The background coroutines that hear of other processes. On SQLite, polls find what they commit."""
    return [] if services.database.is_sqlite else [follow_replicas(services)]


@asynccontextmanager
async def running(services: Services, work: list[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run coroutines in the background while the block runs."""
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        await services.database.cancel(*tasks)
