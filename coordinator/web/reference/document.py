"""The OpenAPI document: what FastAPI derives from the endpoints, completed by roles, problems and words."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from fastapi import APIRouter
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic.json_schema import models_json_schema

from coordinator.web.reference.examples import EXAMPLES
from coordinator.web.reference.refusals import add_refusals
from coordinator.web.reference.roles import IN_WORDS, SCHEMES, roles_of
from coordinator.web.reference.schemas import make_integer_bounds_exact
from shared.wire.base import PROTOCOL_HEADER
from shared.wire.problems import FieldProblem, Problem

API_VERSION = "1"
"""The version of the API, which its paths have too. The document does not tell the version of the program."""

_DESCRIPTION = f"""
Federated fine-tuning of language models. Operators start and watch campaigns, agents at the data owners do the work.

**Errors.** Every refusal is `application/problem+json` (RFC 9457). `type` tells what it is, `detail` what to do,
`errors` names the invalid fields, `retryable` whether the same request may succeed later. Parameters that are not known
here are refused.

**Lists.** A list comes in pages. `limit` is the most items in a page; `cursor` takes the `next_cursor` of the page
before, which is null on the last one. Filters are combined: an item must match all of them.

**Names.** A campaign is named by its id or by its name, which means the newest campaign of that name.

**Headers.** Each reply has `X-Request-Id`, which the coordinator's log has too, and `{PROTOCOL_HEADER}`. A request that
has the latter is refused if the coordinator does not serve its protocol.
""".strip()

_TAGS = {
    "service": "The coordinator itself.",
    "agents": "Agents, and the tokens that they enrol with.",
    "campaigns": "Campaigns, and their rounds, tasks and metrics.",
    "adapters": "The global adapters of a campaign.",
    "verifications": "Recomputing rounds from their stored updates.",
    "events": "What happened, as lists and as streams.",
    "leases": "For agents: getting a task, keeping it, ending it.",
    "blobs": "Files: uploads in chunks, downloads by range.",
}

_PARAMETERS = {
    "id_or_name": "Id of an agent, or its name, which means the newest agent of that name.",
    "sha256": "SHA-256 of the blob.",
    "task_id": "Id of the task, as its lease has it.",
    "token_id": "Id of the token, as the list of tokens has it.",
    "upload_id": "Id of the upload, as the reply that began it has it.",
    "verification_id": "Id of the verification.",
}
"""Parameters without words of their own, by name."""

_END_OF_HEAD = re.compile(r"[.:]\s+|\.$")
"""What ends the summary of an endpoint in its description."""


def openapi_document(routers: Sequence[APIRouter]) -> dict[str, Any]:
    """The OpenAPI document of all endpoints."""
    routes = list(_routes(routers))
    used = {str(tag) for route in routes for tag in route.tags}
    document: dict[str, Any] = get_openapi(
        title="Fedloom coordinator",
        version=API_VERSION,
        description=_DESCRIPTION,
        routes=routes,
        tags=[{"name": name, "description": _TAGS.get(name, "")} for name in [*_TAGS, *sorted(used - {*_TAGS})]],
    )
    components = document["components"]
    for unused in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(unused, None)
    _, problems = models_json_schema(
        [(model, "serialization") for model in (Problem, FieldProblem)], ref_template="#/components/schemas/{model}"
    )
    components["schemas"].update(problems["$defs"])
    for name, example in EXAMPLES.items():
        if name in components["schemas"]:
            components["schemas"][name]["examples"] = [example]
    components["securitySchemes"] = {role.value: scheme for role, scheme in SCHEMES.items()}
    for route in routes:
        for method in route.methods or ():
            _complete(document["paths"][route.path_format][method.lower()], route, method)
    make_integer_bounds_exact(document)
    return document


def _routes(routers: Sequence[APIRouter]) -> Iterator[APIRoute]:
    for router in routers:
        yield from (route for route in router.routes if isinstance(route, APIRoute) and route.include_in_schema)


def _complete(operation: dict[str, Any], route: APIRoute, method: str) -> None:
    """Add role, problems and words to an operation."""
    roles = roles_of(route.dependant)
    words = operation.get("description", "")
    if route.summary is None:
        operation["summary"], words = _head_and_rest(words)
    operation["description"] = f"{words}\n\n**For:** {IN_WORDS[roles]}".strip()
    for each in operation.get("parameters", ()):
        each.setdefault("description", _PARAMETERS.get(each["name"], ""))
    operation["security"] = [{role.value: []} for role in roles]
    for status, response in operation["responses"].items():
        if response.get("description") == "Successful Response":
            response["description"] = {"204": "Done; the reply is empty"}.get(status, "Done")
    add_refusals(operation, route, method)


def _head_and_rest(words: str) -> tuple[str, str]:
    """The first sentence, or its part before a colon, in one line and without a full stop; and what follows it."""
    head, _, rest = _END_OF_HEAD.sub("\0", words.strip(), count=1).partition("\0")
    return " ".join(head.split()), rest[:1].upper() + rest[1:]
