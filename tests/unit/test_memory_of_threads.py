"""What the allocator keeps of many threads."""

import subprocess
import sys

import pytest

from tests.support.processes import ROOT

ARENAS = """
import ctypes, re, sys, tempfile, threading
from coordinator.process.memory import bound_arenas

if sys.argv[1] == "bounded":
    bound_arenas()
libc = ctypes.CDLL(None)
libc.fdopen.restype = ctypes.c_void_p
all_there = threading.Barrier(9)

def take() -> None:
    taken = bytearray(50_000)
    all_there.wait()
    all_there.wait()
    del taken

threads = [threading.Thread(target=take) for _ in range(8)]
for thread in threads:
    thread.start()
all_there.wait()
with tempfile.TemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fdopen(file.fileno(), b"w"))
    libc.malloc_info(0, stream)
    libc.fflush(stream)
    file.seek(0)
    print(len(re.findall(rb"<heap ", file.read())))
all_there.wait()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's arenas")
def test_threads_share_two_arenas() -> None:
    def arenas(how: str) -> int:
        argv = [sys.executable, "-c", ARENAS, how]
        return int(subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, timeout=60).stdout)

    assert arenas("bounded") <= 2 < arenas("unbounded")
