"""The endpoints of a round are called without FastAPI's resolver, and found without trying every route."""

from coordinator.app import ROUTERS
from coordinator.web.direct import is_simple
from coordinator.web.router import beginning
from coordinator.web.routes import BoundedRoute

OF_A_ROUND = {
    ("POST", "/v1/leases"),
    ("PATCH", "/v1/leases/{task_id}"),
    ("PUT", "/v1/leases/{task_id}/result"),
    ("POST", "/v1/leases/{task_id}/uploads"),
    ("PATCH", "/v1/uploads/{upload_id}"),
    ("GET", "/v1/blobs/{sha256}"),
    ("GET", "/v1/agents/me/campaigns"),
}
ROUTES = [route for router in ROUTERS for route in router.routes if isinstance(route, BoundedRoute)]


def test_the_endpoints_of_a_round_are_called_directly() -> None:
    direct = {
        (method, route.path)
        for route in ROUTES
        for method in route.methods
        if is_simple(route.dependant, route.status_code or 200)
    }
    assert direct >= OF_A_ROUND


def test_no_route_has_a_parameter_in_the_beginning_of_its_path() -> None:
    assert [route.path for route in ROUTES if "{" in beginning(route.path)] == []
    for of_leases in ("/v1/leases", "/v1/leases/t1", "/v1/leases/t1/result", "/v1/leases/"):
        assert beginning(of_leases) == "leases"
    for other in ("", "/", "/v1", "/v1/", "//v1/leases", "/healthz"):
        assert beginning(other) != "leases"
