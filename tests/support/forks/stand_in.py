"""Proxy of a process that a fork server starts: passes on streams, environment and folder, and ends as it ends.

``python -I -S stand_in.py SOCKET ARGV...`` starts in a few milliseconds. It needs only the standard library.
"""

import json
import os
import signal
import socket
import sys


def main() -> None:
    path, *argv = sys.argv[1:]
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(path)
    command = {"argv": argv, "env": dict(os.environ), "cwd": os.getcwd()}  # noqa: PTH109 - pathlib is slow to import
    socket.send_fds(connection, [json.dumps(command).encode()], [0, 1, 2])
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in range(3):  # the forked process alone holds them, so its end closes a pipe
        os.dup2(nothing, stream)
    connection.recv(64)  # the process id
    code = int(connection.recv(64) or 1)
    if code < 0:
        if -code not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


main()
