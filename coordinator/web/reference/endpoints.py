"""Endpoints of the reference. They need no key: they tell what the public source tells, and no version."""

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response

from coordinator.web.routes import BoundedRoute

router = APIRouter(include_in_schema=False, route_class=BoundedRoute)

_NOT_STALE = {"Cache-Control": "no-cache"}  # an upgrade changes it


@router.get("/openapi.json")
async def openapi(request: Request) -> Response:
    """The OpenAPI document."""
    state = request.app.state
    if not hasattr(state, "openapi_bytes"):  # made once: everybody may ask, and making it takes longer than sending it
        state.openapi_bytes = JSONResponse(request.app.openapi()).body
    return Response(state.openapi_bytes, media_type="application/json", headers=_NOT_STALE)


@router.get("/docs")
async def docs(request: Request) -> Response:
    """The reference as a page."""
    from coordinator.web.reference.page import POLICY, reference_page  # imports a Markdown parser, for few readers

    state = request.app.state
    if not hasattr(state, "reference_bytes"):
        state.reference_bytes = reference_page(request.app.openapi()).encode()
    return HTMLResponse(state.reference_bytes, headers={"Content-Security-Policy": POLICY, **_NOT_STALE})
