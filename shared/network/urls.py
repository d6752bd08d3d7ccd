"""URLs of coordinators, and the addresses that they listen on."""

import ipaddress
import re
from urllib.parse import urlsplit

_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:@%\\\[\]]+)(:[0-9]*)?")


def is_confidential(url: str) -> bool:
    """Whether nobody on the way can read what is sent to *url*: it is https://, or http:// to this machine.

    This machine is ``localhost`` and the loopback addresses. No name is resolved. So ``x.localhost`` is another host:
    some resolvers ask the network for it. Raises ValueError, with the reason, if *url* is not http(s)://HOST[:PORT].
    """
    parts = urlsplit(url)  # raises ValueError for brackets that do not match
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ValueError("it needs the form http://HOST:PORT or https://HOST:PORT")
    if "@" in parts.netloc:
        raise ValueError("a user name or password does not belong into it; secrets are sent in a header")
    if _HOST_AND_PORT.fullmatch(parts.netloc) is None or parts.port == 0:  # port raises ValueError above 65535
        raise ValueError("its host or port is malformed")
    return parts.scheme == "https" or is_this_machine(parts.hostname or "")


def is_this_machine(host: str) -> bool:
    """Whether a host, in small letters, is ``localhost`` or a loopback address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def host_in_url(address: str) -> str:
    """An address or a name as a URL writes it: an IPv6 address in brackets."""
    return f"[{address}]" if ":" in address else address


def on_this_machine(address: str) -> str:
    """The host in a URL by which this machine reaches a service that listens on *address*.

    All interfaces are reached by the loopback address.
    """
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(address) or host_in_url(address)  # noqa: S104
