"""URLs of coordinators."""

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
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
