"""Downloads a blob, resumes after a broken connection, and checks the digest."""

import hashlib
from pathlib import Path

from fedloom.errors import CorruptDownload, Refused, Unreachable, is_outage
from fedloom.transport import ATTEMPTS, Transport, pause
from shared.wire.base import BlobRef

SILENCE_S = 60.0


def download_blob(transport: Transport, blob: BlobRef, path: Path) -> None:
    """Write a blob to a file. Raises errors.CorruptDownload, Unreachable, Refused and OSError."""
    digest, done, failures = hashlib.sha256(), 0, 0
    with path.open("wb") as file:
        while done < blob.n_bytes:
            headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
            if done:
                headers["Range"] = f"bytes={done}-"
            before = done
            try:
                with transport.stream(f"/v1/blobs/{blob.sha256}", headers, read_timeout_s=SILENCE_S) as reply:
                    if done and reply.status_code != 206:  # a proxy without ranges sends the whole blob again
                        file.seek(0)
                        file.truncate()
                        digest, done = hashlib.sha256(), 0
                    for (
                        piece
                    ) in reply.iter_bytes():  # without a chunk size: it would buffer, and a break would lose the buffer
                        if done + len(piece) > blob.n_bytes:
                            raise CorruptDownload(blob.sha256)
                        file.write(piece)
                        digest.update(piece)
                        done += len(piece)
                if done < blob.n_bytes:
                    raise Unreachable(transport.url, f"blob {blob.sha256} ended after {done} of {blob.n_bytes} bytes")
            except (Unreachable, Refused) as error:
                if not is_outage(error):
                    raise
                failures = 0 if done > before else failures + 1
                if failures >= ATTEMPTS:
                    raise
                pause(failures)
    if digest.hexdigest() != blob.sha256:
        raise CorruptDownload(blob.sha256)
