"""Headers of requests and replies in the OpenAPI document, for endpoints that read or set them themselves."""

from typing import Any

from shared.wire.base import CHUNK_BYTES


def sends(name: str, description: str, example: str, *, required: bool = False) -> dict[str, Any]:
    """A header that an endpoint reads from the request."""
    schema = {"type": "string"}
    return {
        "name": name, "in": "header", "required": required, "schema": schema, "description": description,
        "example": example,
    }  # fmt: skip


def takes_headers(*parameters: dict[str, Any]) -> dict[str, Any]:
    """``openapi_extra`` of an endpoint that reads these headers."""
    return {"parameters": [*parameters]}


def answers(name: str, description: str) -> dict[str, Any]:
    """A header of a reply, as an entry of ``headers``."""
    return {name: {"description": description, "schema": {"type": "string"}}}


CHUNK_BODY = {
    "required": True,
    "description": f"Bytes of the file, at most {CHUNK_BYTES >> 20} MiB.",
    "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
}
