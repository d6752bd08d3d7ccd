"""Why a connection failed, in plain words. HTTP libraries name the cause only in the chain of their errors."""

import os
import socket
import ssl
from collections.abc import Iterator

_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_HOST = (62, 64)
"""Verification codes of OpenSSL, X509_V_ERR_…, which the module ssl does not name."""


def cause_of(error: BaseException) -> str | None:
    """Return why a connection failed. None if no error in the chain tells."""
    for link in _chain(error):
        if isinstance(link, ssl.SSLCertVerificationError):
            return _about_certificate(link)
        if isinstance(link, ssl.SSLError):
            return f"the TLS connection failed ({link.reason or link})"
        if isinstance(link, socket.gaierror):
            return "its host name is unknown"
        if isinstance(link, OSError) and link.errno is not None:
            return os.strerror(link.errno).lower()
    return None


def cause_in_words(error: BaseException, *, timed_out: bool) -> str:
    """Why a request got no reply, to stand after a colon.

    Args:
        error: what an HTTP library raised.
        timed_out: whether it waited in vain.
    """
    if (known := cause_of(error)) is not None:
        return known
    if timed_out:
        return "no answer in time"
    text = str(error).rstrip(".") or "the connection was closed"
    return text[0].lower() + text[1:]


def is_about_certificate(error: BaseException) -> bool:
    """Whether the other side's certificate was refused."""
    return any(isinstance(link, ssl.SSLCertVerificationError) for link in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, ExceptionGroup):  # an attempt for each address of the host
            link = link.exceptions[0]
        yield link
        link = link.__cause__ or link.__context__


def _about_certificate(error: ssl.SSLCertVerificationError) -> str:
    if error.verify_code == _EXPIRED:
        return "its certificate has expired; renew it, or look at the clock of this machine"
    if error.verify_code == _NOT_YET_VALID:
        return "its certificate is not yet valid; look at the clocks of both machines"
    if error.verify_code in _OTHER_HOST:
        return f"its certificate is for another host ({error.verify_message.rstrip('.')})"
    return f"its certificate is not trusted ({error.verify_message}); name its CA with --ca-file"
