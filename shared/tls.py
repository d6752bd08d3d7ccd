"""Trust in a certificate authority that a person saved to a file."""

import ssl
from pathlib import Path

from shared.text_file import MARK_BYTES, marked_encoding


def context_trusting(ca_file: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts the authorities in a PEM file alone. Raises OSError.

    OpenSSL does not find a certificate after a byte-order mark, so the mark is taken off here.
    """
    content = ca_file.read_bytes()
    encoding = marked_encoding(content[:MARK_BYTES])
    if encoding is None:
        return ssl.create_default_context(cafile=ca_file)
    pem = content.decode(encoding, errors="replace").encode("ascii", errors="ignore")  # comments may be in any script
    return ssl.create_default_context(cadata=pem.decode())
