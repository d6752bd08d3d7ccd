"""What a program tries to reach or to keep: the network, files, memory, processes."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fedloom.evaluation.sandbox.limits import FUNCTION
from fedloom.evaluation.sandbox.program import Kind
from fedloom.evaluation.sandbox.sandbox import Sandbox
from tests.support.processes import ROOT
from tests.unit.evaluation.sandbox.squares import RIGHT, attempt, program


def test_no_network(sandbox: Sandbox) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
        code = f"""
import socket
def attempt():
    reached = []
    for address in ({address!r}, ("192.0.2.1", 80)):
        try: socket.create_connection(address, 2); reached.append(address)
        except OSError: pass
    try: reached.append(socket.gethostbyname("example.org"))
    except OSError: pass
    return reached
"""
        (result,) = sandbox.run([attempt(code, "assert attempt() == [], attempt()")])
        assert result.kind is Kind.PASSED, result
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.accept()


def test_no_abstract_sockets_of_the_machine(sandbox: Sandbox) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(f"\0fedloom-{os.getpid()}")
        server.listen()
        code = f"""
import socket
def attempt():
    with socket.socket(socket.AF_UNIX) as client:
        try: client.connect("\\0fedloom-{os.getpid()}")
        except OSError: return "refused"
        return "reached"
"""
        (result,) = sandbox.run([attempt(code, "assert attempt() == 'refused'")])
    assert result.kind is Kind.PASSED, result


def test_no_files_of_homes_repository_or_data(sandbox: Sandbox, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret")
    link = tmp_path / "link"
    link.symlink_to(secret)
    paths = [
        secret,
        link,
        ROOT / "pyproject.toml",
        Path.home() / ".bashrc",
        Path(__file__),
        "/etc/passwd",
        "/etc/shadow",
    ]
    code = f"""
import os
def attempt():
    seen = []
    for path in {list(map(str, paths))!r}:
        os.symlink(path, f"/tmp/link{{len(os.listdir('/tmp'))}}")
        links = [f"/tmp/{{name}}" for name in os.listdir("/tmp")]
        for way in (path, "/proc/self/root" + path, "/proc/1/root" + path, *links):
            try: open(way).read(); seen.append(way)
            except OSError: pass
    return seen
"""
    (result,) = sandbox.run([attempt(code, "seen = attempt()\nassert seen == [], seen")])
    assert result.kind is Kind.PASSED, result


def test_no_process_but_its_own(sandbox: Sandbox) -> None:
    """Neither this process nor that of the tests can be seen, read or traced."""
    code = """
import ctypes, os
def attempt():
    processes = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    others = [process for process in processes if process not in (1, os.getpid())]
    libc = ctypes.CDLL(None, use_errno=True)
    traced = libc.ptrace(16, 1, 0, 0)
    try: memory = open("/proc/1/environ", "rb").read() + open("/proc/1/mem", "rb").read(1)
    except OSError: memory = b""
    environment = [name for name in os.environ]
    return others, traced, memory, sorted(environment)
"""
    # the first process is bubblewrap's own; an ordinary user's may be traced, and holds nothing
    allowed = (-1,) if os.geteuid() == 0 else (-1, 0)
    tests = f"""
others, traced, memory, environment = attempt()
assert (others, memory) == ([], b"") and traced in {allowed}, (others, traced, memory)
assert not [name for name in environment if "KEY" in name or "TOKEN" in name or "FEDLOOM" in name], environment
"""
    (result,) = sandbox.run([attempt(code, tests)])
    assert result.kind is Kind.PASSED, result


def test_nothing_is_written_but_in_tmp(sandbox: Sandbox) -> None:
    code = """
import os, sys
def attempt():
    written = []
    folders = ["/", "/dev", "/proc", "/usr/lib", "/usr/bin", "/sandbox", "/sandbox/inside", "/lib"]
    folders.append(os.path.dirname(os.__file__))
    for folder in folders:
        try: open(folder + "/written", "w").close(); written.append(folder)
        except OSError: pass
    for file in (os.__file__, sys.executable):
        try: open(file, "r+").close(); written.append(file)
        except OSError: pass
    open("/tmp/written", "w").close()
    return written
"""
    (result,) = sandbox.run([attempt(code, "written = attempt()\nassert written == [], written")])
    assert result.kind is Kind.PASSED, result
    assert not Path("/tmp/written").exists()


def test_no_rights_to_gain(sandbox: Sandbox) -> None:
    code = """
import ctypes, os
def attempt():
    gained = []
    for gain in (lambda: os.setuid(0), lambda: os.chroot("/tmp"), lambda: os.setgroups([0])):
        try: gain(); gained.append(os.getuid())
        except OSError: pass
    libc = ctypes.CDLL(None)
    if libc.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0: gained.append("mount")
    import resource
    for name in ("RLIMIT_AS", "RLIMIT_FSIZE", "RLIMIT_NPROC"):
        try: resource.setrlimit(getattr(resource, name), (resource.RLIM_INFINITY,) * 2); gained.append(name)
        except (OSError, ValueError): pass
    return gained
"""
    (result,) = sandbox.run([attempt(code, "gained = attempt()\nassert gained == [], gained")])
    assert result.kind is Kind.PASSED, result


@pytest.mark.parametrize("code", ["bytes(3 * 2**30)", "[0] * 2**33", "'x' * 2**32"])
def test_memory_is_limited(sandbox: Sandbox, code: str) -> None:
    (result,) = sandbox.run([program(f"def square(x):\n    return {code}")])
    assert result.kind is Kind.OUT_OF_MEMORY


def test_a_value_too_long_is_out_of_memory_and_leaves_the_tests_alive(sandbox: Sandbox) -> None:
    (result,) = sandbox.run([program("def square(x):\n    return 'x' * 2**25")])
    assert result.kind is Kind.OUT_OF_MEMORY


def test_files_are_limited(sandbox: Sandbox) -> None:
    code = """
import errno
def attempt():
    written = 0
    stopped = set()
    for folder in ("/tmp", "/dev/shm"):
        for number in range(20):
            try:
                with open(f"{folder}/{number}", "wb") as file:
                    while True: written += file.write(bytes(2**20))
            except OSError as error: stopped.add(error.errno)
    return written, stopped == {errno.EFBIG, errno.ENOSPC}
"""
    tests = f"written, both = attempt()\nassert both and written <= {2 * FUNCTION.scratch}, (written, both)"
    (result,) = sandbox.run([attempt(code, tests)])
    assert result.kind is Kind.PASSED, result


def test_processes_are_limited(sandbox: Sandbox) -> None:
    code = """
import os, time
def attempt():
    for number in range(1000):
        try:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
        except OSError: return number
    return 1000
"""
    (result,) = sandbox.run([attempt(code, f"assert 0 < attempt() < {FUNCTION.processes}")])
    assert result.kind is Kind.PASSED, result


def test_a_fork_bomb_ends_with_its_time(sandbox: Sandbox) -> None:
    bomb = "import os\ndef square(x):\n    while True:\n        try: os.fork()\n        except OSError: pass\n"
    started = time.monotonic()
    results = sandbox.run([program(bomb, seconds=0.5), program(RIGHT)])
    assert [result.kind for result in results] == [Kind.TIMED_OUT, Kind.PASSED]
    assert time.monotonic() - started < 30


LOOPS = {
    "in the function": "def square(x):\n    while True: pass",
    "before the tests": "while True: pass",
    "sleeping": "import time\ndef square(x): time.sleep(600)",
    "all signals blocked and ignored": """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
for number in signal.valid_signals():
    try: signal.signal(number, signal.SIG_IGN)
    except (OSError, ValueError): pass
while True: pass
""",
    "what is raised is caught": """
def square(x):
    while True:
        try:
            while True: pass
        except BaseException: pass
""",
}


@pytest.mark.parametrize("answer", LOOPS.values(), ids=LOOPS.keys())
def test_an_endless_loop_is_timed_out(sandbox: Sandbox, answer: str) -> None:
    (result,) = sandbox.run([program(answer, seconds=0.3)])
    assert (result.kind, result.detail) == (Kind.TIMED_OUT, "no end within 0.3 s")


def test_endless_output_is_cut(sandbox: Sandbox) -> None:
    (result,) = sandbox.run([program("def square(x):\n    while True: print('x' * 10**6)", seconds=0.5)])
    assert (result.kind, result.output) == (Kind.TIMED_OUT, "x" * FUNCTION.output)


def test_killing_around_kills_itself_alone(sandbox: Sandbox) -> None:
    kills = [f"import os\nos.kill({target}, 9)\n{RIGHT}" for target in ("os.getpid()", "-1")]
    spared = [
        f"import os\ntry: os.kill({target}, 9)\nexcept OSError: pass\n{RIGHT}" for target in ("os.getppid()", "1")
    ]
    results = sandbox.run([program(answer) for answer in [*kills, *spared, RIGHT]])
    assert results[-1].kind is Kind.PASSED
    assert all(result.kind in (Kind.PASSED, Kind.FAILED) for result in results)


@pytest.mark.parametrize("is_isolated", [True, False], ids=["isolated", "not isolated"])
@pytest.mark.parametrize("after", ["os._exit(0)", "pass", "while True: pass"])
def test_a_background_child_does_not_outlive_its_program(sandbox: Sandbox, after: str, is_isolated: bool) -> None:
    marker = f"fedloom-left-behind-{os.getpid()}-{len(after)}-{is_isolated}"
    code = f"""
import os, sys, signal, time
if os.fork() == 0:
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        os.execv(sys.executable, [sys.executable, "-S", "-c", "import time; time.sleep(600)", "{marker}"])
    os._exit(0)
os.wait()
time.sleep(0.2)
def square(x):
    {after}
"""
    (sandbox if is_isolated else Sandbox(run_untrusted_code=True)).run([program(code, seconds=2)])
    if is_isolated:  # the kernel ends the namespace, soon
        wait_until(lambda: not has_process(marker))
    assert not has_process(marker)


@pytest.mark.parametrize("is_isolated", [True, False], ids=["isolated", "not isolated"])
def test_nothing_outlives_a_run_that_is_killed(sandbox: Sandbox, is_isolated: bool) -> None:
    """kill -9 of the process that runs programs, which then cleans up nothing itself."""
    marker = f"fedloom-orphan-{os.getpid()}-{is_isolated}"
    halves = f"fedloom-' 'orphan-{os.getpid()}-{is_isolated}"  # which the runner has among its arguments too
    spin = f"[sys.executable, '-S', '-c', 'while True: pass', '{halves}']"
    endless = f"import os, sys\\nos.fork() or os.setsid()\\nos.execv(sys.executable, {spin})"
    code = f"""
from fedloom.evaluation.sandbox.sandbox import Sandbox
from tests.unit.evaluation.sandbox.squares import program
Sandbox({not is_isolated}).run([program("{endless}", seconds=600)] * 2)
"""
    runner = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        wait_until(lambda: has_process(marker))
    finally:
        runner.kill()
        runner.wait()
    wait_until(lambda: not has_process(marker))


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_process(marker: str) -> bool:
    """Whether a process of this machine has *marker* among its arguments."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if marker.encode() in (folder / "cmdline").read_bytes():
                return True
        except OSError:  # it has ended
            continue
    return False
