"""A small HTTP server for tests, which says nothing when a client hangs up."""

import sys
from http.server import ThreadingHTTPServer
from typing import Any


class HttpServer(ThreadingHTTPServer):
    """Answers each request in a thread of its own. Clients that are killed or impatient hang up in the middle."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)
