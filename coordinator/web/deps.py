"""Parameters that endpoints declare: the services, a session, the time, numbers within the database's bounds.

Dependencies are coroutines: FastAPI runs plain functions in threads, which costs more than their own work.
"""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated

from fastapi import Depends, Query, Request
from sqlalchemy.ext.asyncio import AsyncSession

from coordinator.services import Services
from shared.bounds import MAX_COUNT


async def _services(request: Request) -> Services:
    services = request.app.state.services
    assert isinstance(services, Services)
    return services


ServicesDep = Annotated[Services, Depends(_services)]


async def _now(services: ServicesDep) -> datetime:
    return services.clock.now()


Now = Annotated[datetime, Depends(_now)]


async def _read_session(services: ServicesDep) -> AsyncIterator[AsyncSession]:
    async with services.database.read() as session:
        yield session


async def _write_session(request: Request, services: ServicesDep) -> AsyncIterator[AsyncSession]:
    async with services.database.write(request.scope["route"].name) as session:
        yield session


# scope="function": the transaction ends before the reply is sent, so no reply describes what may be rolled back
ReadSession = Annotated[AsyncSession, Depends(_read_session, scope="function")]
WriteSession = Annotated[AsyncSession, Depends(_write_session, scope="function")]


RoundFilter = Annotated[int | None, Query(ge=0, le=MAX_COUNT, description="Only of the round with this number.")]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most items in the page.")]
Cursor = Annotated[
    str | None, Query(max_length=200, description="`next_cursor` of the page before; left out for the first page.")
]
