"""Checks of a service's address and certificate before anything starts: what cannot be used is refused in words."""

import errno
import socket
import ssl
from pathlib import Path

from fedloom.errors import InvalidOption


class _Encrypted(Exception):
    """A private key needs a password."""


def check_address(host: str, port: int) -> None:
    """Raise InvalidOption unless this process can listen on *port* of *host* now."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise InvalidOption(f"--host {host}: no address is known for this name ({error.strerror})") from error
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            with socket.socket(family, kind, protocol) as probe:
                # as the service's own sockets: connections that were closed a moment ago do not keep a port
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(address)
        except OSError as error:
            if error.errno == errno.EAFNOSUPPORT and len(found) > 1:
                continue  # a machine without IPv6, whose names have an IPv6 address nevertheless
            raise InvalidOption(_reason(error, str(address[0]), port)) from error


def _reason(error: OSError, address: str, port: int) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return f"port {port} of {address} is in use; choose another with --port"
        case errno.EADDRNOTAVAIL:
            return f"{address} is no address of this machine; choose another with --host"
        case errno.EACCES:
            return f"this user may not listen on port {port}; choose one above 1023 with --port"
        case _:
            return f"cannot listen on port {port} of {address}: {error.strerror}"


def check_certificate(certificate: Path, key: Path) -> None:
    """Raise InvalidOption unless a certificate and its private key can be used. A key with a password is not tried."""
    for file in (certificate, key):
        try:
            file.read_bytes()
        except OSError as error:
            raise InvalidOption(f"{file} cannot be read: {error.strerror}") from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(certificate)
    except ssl.SSLError as error:
        raise InvalidOption(f"--tls-cert: {certificate} is not a PEM certificate") from error
    try:
        context.load_cert_chain(certificate, key, password=_refuse)
    except _Encrypted:
        return  # the password is asked for when the service starts
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise InvalidOption(f"--tls-key: {key} is not the key of the certificate {certificate}") from error
        if error.reason in ("PEM_LIB", None) or "PEM" in str(error):
            raise InvalidOption(f"--tls-key: {key} is not a private key in PEM") from error
        raise InvalidOption(f"--tls-cert {certificate} cannot be used: {error.reason}") from error


def _refuse() -> str:
    raise _Encrypted
