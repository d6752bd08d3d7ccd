"""Addresses of databases: what the setting ``database_url`` says, checked before anything connects.

A URL has libpq's form. Its parameters become asyncpg's arguments here, and an unknown one is refused: asyncpg would
take it for a setting of the server.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from sqlalchemy import URL

from coordinator.database.sqlite.dialect import SCHEME
from coordinator.errors import BadDatabaseUrl

CONNECT_S = 5.0
"""Seconds that a connection may take to be made; ``connect_timeout`` in the URL sets another time."""
ANSWER_S = 20.0
"""Seconds within which a statement is answered. The longest ones write megabytes of a blob."""

_PORT = 5432
_FORM = "postgresql://user@host:port/name"
_TAKEN = (
    f"Fedloom takes {_FORM}, with a password as user:password or given apart; without a URL it uses SQLite in the "
    "data folder"
)
_APART = (
    "percent-encode a password with special characters, or give it apart (FEDLOOM_DATABASE_PASSWORD_FILE or PGPASSWORD)"
)

_ENCODED = re.compile(
    r"(?:(?P<user>[^:@/?#]*)(?::(?P<password>[^@/?#]*))?@)?(?P<hosts>[^@/?#]*)(?:/(?P<name>[^@/?#]*))?(?:\?(?P<query>[^#]*))?"
)
"""What follows ``postgresql://`` as it should be written."""
_LITERAL = re.compile(
    r"(?P<user>[^:/?#]+):(?P<password>.+)@(?P<hosts>[^@/?#]*)/(?P<name>[^@/?#]*)(?:\?(?P<query>[^@#]*))?", re.DOTALL
)
"""The same with a password that was not encoded, which ends at the last ``@``."""
_ESCAPE, _STRAY = re.compile(r"%[0-9A-Fa-f]{2}"), re.compile(r"%(?![0-9A-Fa-f]{2})")
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|/.*|[^:\[\]/]+)(?::(?P<port>[0-9]{1,5}))?")
_HOST_NAME = re.compile(r"/.*|[\w.-]+|[0-9A-Fa-f:.]+", re.DOTALL)

_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_TLS = ("sslmode", *_FILES, "sslpassword", "ssl_min_protocol_version", "ssl_max_protocol_version", "passfile")
"""Parameters that asyncpg reads from a URL of its own, with libpq's meaning."""
_CHOICES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "primary", "standby", "read-write", "read-only", "prefer-standby"),
}
_KNOWN = ("host", "port", "connect_timeout", "application_name", "options", "target_session_attrs", *_TLS)


@dataclass(frozen=True)
class Address:
    """Where a database is.

    url: for SQLAlchemy, without anything secret. shown: for messages. file: SQLite's. connect: asyncpg's arguments.
    """

    url: str
    shown: str
    file: Path | None = None
    connect: Mapping[str, Any] = field(default_factory=dict, repr=False)


def sqlite_address(file: Path) -> Address:
    """The address of the SQLite database in a file."""
    path = file.resolve()
    return Address(URL.create(SCHEME, database=str(path)).render_as_string(), str(path), path)


def postgres_address(url: str, password: str | None = None) -> Address:
    """Read a URL. password: the one that is given apart. Raises BadDatabaseUrl, which quotes nothing of a password."""
    scheme, separator, rest = url.strip().partition("://")
    if not url.strip():
        raise BadDatabaseUrl(f"it is empty; {_TAKEN}")
    if not separator or not re.fullmatch(r"[A-Za-z][\w+.-]*", scheme):
        raise BadDatabaseUrl(f"not a URL; {_TAKEN}")
    if scheme not in ("postgresql", "postgres"):
        raise BadDatabaseUrl(f"it begins with {scheme}://; {_TAKEN}")
    refused: BadDatabaseUrl | None = None
    for form in (_ENCODED, _LITERAL):
        parts = form.fullmatch(rest)
        if parts is not None:
            try:
                return _address(parts, password, is_literal=form is _LITERAL)
            except BadDatabaseUrl as error:
                refused = refused or error
    raise refused or BadDatabaseUrl(f"it cannot be read; its form is {_FORM}: {_APART}")


def _address(parts: re.Match[str], apart: str | None, *, is_literal: bool) -> Address:
    given = _parameters(parts["query"] or "")
    user, name = unquote(parts["user"] or ""), unquote(parts["name"] or "")
    password = _password(parts["password"] or "", is_literal=is_literal)
    if password and apart:
        raise BadDatabaseUrl("it has a password, and another is given apart; give one of them")
    if not name:
        raise BadDatabaseUrl(f"the name of the database is missing; its form is {_FORM}")
    if "\0" in user + name + password:
        raise BadDatabaseUrl("it contains a NUL character")
    hosts, ports = _hosts(given.pop("host", "") or parts["hosts"], given.pop("port", str(_PORT)))
    connect: dict[str, Any] = {
        "user": user or None,
        "password": password or apart or None,
        "database": name,
        "host": hosts or None,
        "port": ports or None,
        "timeout": _seconds(given.pop("connect_timeout", None)),
        "command_timeout": ANSWER_S,
        "target_session_attrs": given.pop("target_session_attrs", None),
        "server_settings": {key: given.pop(key) for key in ("application_name", "options") if key in given} or None,
        "dsn": f"postgresql://?{urlencode(given)}" if given else None,
    }
    shown = f"postgresql://{quote(user)}{'@' if user else ''}{_places(hosts, ports)}/{quote(name)}"
    used = {key: value for key, value in connect.items() if value is not None}
    return Address("postgresql+asyncpg://", shown, connect=used)


def _password(text: str, *, is_literal: bool) -> str:
    """Decode a password. One with a character that encoding would have replaced was not encoded, so it is literal."""
    if is_literal or _STRAY.search(text):
        if _ESCAPE.search(text):
            raise BadDatabaseUrl(f"its password may be meant in two ways: {_APART}")
        return text
    return unquote(text)


def _hosts(text: str, port_for_all: str) -> tuple[list[str], list[int]]:
    """Hosts and their ports; none for asyncpg's defaults. Quotes nothing: it may be a part of a password."""
    hosts, ports = [], []
    for each in filter(None, text.split(",")):
        found = _HOST.fullmatch(unquote(each))
        host = found["host"].strip("[]") if found is not None else ""
        port = (found["port"] if found is not None else None) or port_for_all
        if (
            not _HOST_NAME.fullmatch(host)
            or not (port.isascii() and port.isdecimal())
            or not 1 <= int(port[:9]) <= 65535
        ):
            raise BadDatabaseUrl(f"its host or port cannot be read; its form is {_FORM}: {_APART}")
        hosts.append(host)
        ports.append(int(port))
    return hosts, ports


def _places(hosts: list[str], ports: list[int]) -> str:
    each = zip((f"[{host}]" if ":" in host else quote(host) for host in hosts), ports, strict=True)
    return ",".join(host if port == _PORT else f"{host}:{port}" for host, port in each)


def _parameters(query: str) -> dict[str, str]:
    """The parameters after the question mark, checked."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    except ValueError:
        raise BadDatabaseUrl(f"its parameters cannot be read; they are name=value, joined by &: {_APART}") from None
    given = dict(pairs)
    for name, value in pairs:
        if name not in _KNOWN and "@" in query:  # the name may be a part of a password
            raise BadDatabaseUrl(f"its parameters cannot be read: {_APART}")
        if name not in _KNOWN:
            raise BadDatabaseUrl(f"its parameter {name[:40]!r} is unknown; known are {', '.join(_KNOWN)}")
        if name in _CHOICES and value not in _CHOICES[name]:
            raise BadDatabaseUrl(f"its parameter {name} must be one of {', '.join(_CHOICES[name])}")
        if name in _FILES and not Path(value).is_file():
            raise BadDatabaseUrl(f"its parameter {name} names {value!r}, and there is no such file")
    if len(given) < len(pairs):
        raise BadDatabaseUrl("one of its parameters is given twice")
    return given


def _seconds(text: str | None) -> float:
    """``connect_timeout``, which libpq lets be endless: a request must not wait for ever."""
    if text is None:
        return CONNECT_S
    if not (text.isascii() and text.isdecimal()) or not 1 <= int(text[:9]) <= 300:
        raise BadDatabaseUrl("its parameter connect_timeout must be a whole number of seconds from 1 to 300")
    return float(text)
