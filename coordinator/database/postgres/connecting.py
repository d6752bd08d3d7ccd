"""Connects to PostgreSQL. Everything that can fail is said in words, with the place and without the password."""

import errno
import os
import re
import socket
import ssl
from typing import Any

from coordinator.database.address import Address
from coordinator.errors import DatabaseAway

_STATES = {
    "28P01": "it refuses the user or the password",
    "3D000": "it has no database of this name",
    "53300": "it has no connection left",
    "57P03": "it is starting up or shutting down",
}
_ERRNO = re.compile(r"\[Errno (\d+)\]")
_WORDS = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.ENOENT: "nothing listens there",
    errno.ECONNRESET: "the connection was closed",
}


async def connect_postgres(address: Address, *_: Any, n_statements: int = 100, **__: Any) -> Any:
    """A connection of asyncpg. n_statements: most that it keeps prepared. Raises DatabaseAway."""
    import asyncpg  # type: ignore[import-untyped]

    try:
        return await asyncpg.connect(**address.connect, statement_cache_size=n_statements)
    except Exception as error:
        raise DatabaseAway(f"{address.shown}: {_why(error, address)}") from error


def _why(error: Exception, address: Address) -> str:
    if (state := getattr(error, "sqlstate", None)) in _STATES:
        return _STATES[state]
    match error:
        case socket.gaierror():
            return (
                "its host name is unknown; if that is not a host of yours, the password has a special character: "
                "percent-encode it, or give it apart (FEDLOOM_DATABASE_PASSWORD_FILE or PGPASSWORD)"
            )
        case TimeoutError():
            return f"no answer within {address.connect['timeout']:g} s"
        case ssl.SSLCertVerificationError():
            return f"its certificate is not trusted: {error.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {error.reason or error}"
        case OSError():
            number = error.errno or next(map(int, _ERRNO.findall(str(error))), None)
            if number is not None:
                return _WORDS.get(number, os.strerror(number).lower())
    return str(error).splitlines()[0] if str(error) else type(error).__name__
