"""Trust in certificate authorities."""

import os
import ssl
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

from shared.network.environment import BadEnvironment
from shared.text.text_file import MARK_BYTES, marked_encoding, read_bounded

VARIABLES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
"""Environment variables that name the authorities to trust; the first that is set counts."""


def trust(ca_file: Path | None) -> ssl.SSLContext | Literal[True]:
    """Return what HTTP connections trust: *ca_file* alone, or what VARIABLES name, or True for the default authorities.

    Raises OSError for *ca_file*, and BadEnvironment for a variable.
    """
    if ca_file is not None:
        return context_trusting(ca_file)
    named = _named()
    return True if named is None else _trust_named(*named)


def refresh(trusted: ssl.SSLContext | Literal[True], ca_file: Path | None) -> None:
    """Trust what the file of authorities holds by now, in addition to what it held before.

    For a process that runs when its coordinator gets another authority. The former ones stay trusted until it ends. A
    file that cannot be read changes nothing. The default authorities and those of a folder need no refreshing.
    """
    named = _named()
    path = ca_file if ca_file is not None or named is None else Path(named[1])
    if trusted is not True and path is not None and path.is_file():
        with suppress(OSError, ValueError):
            trusted.load_verify_locations(**_authorities(path))


def _named() -> tuple[str, str] | None:
    """The variable that names the authorities, with its value. None if none does."""
    given = ((variable, os.environ.get(variable, "").strip()) for variable in VARIABLES)
    return next((pair for pair in given if pair[1]), None)


def _trust_named(variable: str, given: str) -> ssl.SSLContext:
    path = Path(given)
    try:
        return context_trusting_folder(path) if path.is_dir() else context_trusting(path)
    except FileNotFoundError as error:
        raise BadEnvironment(variable, f"names {path}, which is not there") from error
    except ssl.SSLError as error:
        raise BadEnvironment(variable, f"names {path}, which holds no certificate (PEM)") from error
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise BadEnvironment(variable, f"names {path}, which cannot be read: {reason or error}") from error


def context_trusting_folder(folder: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts the authorities in a folder alone, as ``openssl rehash`` makes it."""
    return ssl.create_default_context(capath=folder)


def context_trusting(ca_file: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts the authorities in a PEM file alone. Raises OSError."""
    return ssl.create_default_context(**_authorities(ca_file))


def _authorities(ca_file: Path) -> dict[str, Any]:
    """Arguments that load a PEM file.

    OpenSSL does not find a certificate after a byte-order mark, so the mark is taken off here.
    """
    content = read_bounded(ca_file)
    encoding = marked_encoding(content[:MARK_BYTES])
    if encoding is None:
        return {"cafile": ca_file}
    pem = content.decode(encoding, errors="replace").encode("ascii", errors="ignore")  # comments may be in any script
    return {"cadata": pem.decode()}
