"""Many programs, what is missing, and what is refused."""

import os
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import pytest

from fedloom.evaluation.sandbox.isolation import NoIsolation, find_bubblewrap
from fedloom.evaluation.sandbox.limits import Limits
from fedloom.evaluation.sandbox.program import Kind, WholeProgram
from fedloom.evaluation.sandbox.sandbox import Sandbox
from tests.unit.evaluation.sandbox.squares import RIGHT, program


def test_results_are_in_the_order_of_the_programs(sandbox: Sandbox) -> None:
    slow = program(f"import time\ntime.sleep(0.5)\n{RIGHT}")
    results = sandbox.run([slow, program("def square(x): return 0"), program(RIGHT)])
    assert [result.kind for result in results] == [Kind.PASSED, Kind.FAILED, Kind.PASSED]


@pytest.mark.deep
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are assigned on Linux")
def test_programs_run_side_by_side_on_the_cores_that_are_there() -> None:
    """Sleeps of two at a time take half of their sum, and one by one all of it."""
    cores = sorted(os.sched_getaffinity(0))
    try:
        for n in range(1, min(2, len(cores)) + 1):
            os.sched_setaffinity(0, cores[:n])
            started = time.monotonic()
            results = Sandbox(run_untrusted_code=True).run([WholeProgram("import time; time.sleep(1)", seconds=20)] * 4)
            assert {result.kind for result in results} == {Kind.PASSED}
            assert 4 / n <= time.monotonic() - started < 4 / n + 1.9
    finally:
        os.sched_setaffinity(0, cores)


def test_the_clock_starts_once_both_processes_have_started(sandbox: Sandbox) -> None:
    """A slow start is no fault of the answer; so is the import of what the set gives it."""
    (result,) = sandbox.run([program(RIGHT, prelude="import time; time.sleep(1)", seconds=0.5)])
    assert result.kind is Kind.PASSED, result


def test_a_library_is_there_if_it_is_named(sandbox: Sandbox) -> None:
    answer = "import numpy\ndef square(x): return numpy.int64(x) ** 2"
    results = sandbox.run([program(answer, libraries=("numpy",)), program(answer)])
    assert [result.kind for result in results] == [Kind.PASSED, Kind.FAILED]


@pytest.mark.parametrize("scratch", ["/tmp", "/dev/shm"])
def test_a_library_below_a_folder_that_the_sandbox_has_of_its_own_is_there_too(
    sandbox: Sandbox, scratch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As that of a virtual environment in /tmp, whose programs would all fail for want of it."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        installed_library(Path(folder, "environment"), monkeypatch)
        Path(folder, "secret").write_text("not for programs")
        answer = f"import os\nfrom waterworks import square\nassert os.listdir({folder!r}) == ['environment']"
        (result,) = sandbox.run([program(answer, libraries=("waterworks",))])
    assert result.kind is Kind.PASSED, result


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has programs run as another user")
@pytest.mark.parametrize("closed", ["environment", "environment/waterworks", "environment/waterworks/__init__.py"])
def test_a_library_that_the_user_within_may_not_read_is_a_harness_error(
    sandbox: Sandbox, closed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that root installed with umask 077."""
    installed_library(tmp_path / "environment", monkeypatch)
    (tmp_path / closed).chmod(0o700)
    answer = "def square(x):\n    import waterworks\n    return waterworks.square(x)"
    (result,) = sandbox.run([program(answer, libraries=("waterworks",))])
    assert result.kind is Kind.HARNESS_ERROR, result
    assert "the user of the sandbox may not read waterworks" in result.detail


def installed_library(environment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = environment / "waterworks"
    library.mkdir(parents=True)
    (library / "__init__.py").write_text("square = lambda x: x * x")
    for path in (environment, library):
        path.chmod(0o755)
    (library / "__init__.py").chmod(0o644)
    monkeypatch.syspath_prepend(environment)


@pytest.mark.parametrize(
    ("options", "detail"),
    [
        ({"tests": "assert square(2) = 4"}, "the tests cannot be run: SyntaxError"),
        ({"support": "import nonexistent"}, "the tests cannot be run: ModuleNotFoundError"),
        ({"prelude": "import nonexistent"}, "a process of the sandbox ended before it had started"),
        ({"libraries": ("nonexistent",)}, "ModuleNotFoundError: nonexistent is not installed"),
    ],
)
def test_what_is_no_fault_of_the_model_is_a_harness_error(
    sandbox: Sandbox, options: dict[str, str], detail: str
) -> None:
    (result,) = sandbox.run([program(RIGHT, **options)])
    assert result.kind is Kind.HARNESS_ERROR
    assert result.detail.startswith(detail)


def test_a_process_that_does_not_start_is_a_harness_error() -> None:
    (result,) = Sandbox(True, Limits(start_seconds=0.5)).run([program(RIGHT, prelude="import time; time.sleep(60)")])
    assert (result.kind, result.detail) == (Kind.HARNESS_ERROR, "no start within 0.5 s")


def test_an_interrupted_run_kills_what_runs(sandbox: Sandbox) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    key = threading.Timer(2, signal.pthread_kill, (threading.get_ident(), signal.SIGINT))
    started = time.monotonic()
    try:
        key.start()
        with pytest.raises(KeyboardInterrupt):
            sandbox.run([program(RIGHT), *[program("import time; time.sleep(600)", seconds=600)] * 5])
    finally:
        key.join()
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 20


def test_without_bubblewrap_it_refuses_and_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoIsolation, match=r"bwrap is not installed.*apt install bubblewrap.*--run-untrusted-code"):
        Sandbox()


def test_a_bubblewrap_that_does_not_work_is_refused_with_its_words(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake = tmp_path / "bwrap"
    fake.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    fake.chmod(fake.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(NoIsolation, match="does not work here: No permissions to create new namespace"):
        Sandbox()


NAMESPACES = """import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
assert libc.unshare(0x10000000) == %d, os.strerror(ctypes.get_errno())
"""


def test_a_program_makes_no_namespaces_where_bubblewrap_can_see_to_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)  # as root the sandbox is built in another way
    real = shutil.which("bwrap")
    if real is None:
        pytest.skip("needs bubblewrap")
    if subprocess.run(
        [real, "--unshare-user", "--disable-userns", "--ro-bind", "/", "/", "true"], check=False, capture_output=True
    ).returncode:
        pytest.skip("needs bubblewrap 0.8, and namespaces in namespaces")
    (result,) = Sandbox().run([WholeProgram(NAMESPACES % -1, seconds=20)])
    assert result.kind is Kind.PASSED, result
    old = tmp_path / "bwrap"
    old.write_text(f'#!/bin/sh\ncase "$*" in *--disable-userns*) exit 1;; esac\nexec {real} "$@"\n')
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert find_bubblewrap() == [str(old)]
    (result,) = Sandbox().run([WholeProgram(NAMESPACES % 0, seconds=20)])
    assert result.kind is Kind.PASSED, result


class TestWithoutIsolation:
    """For a caller who said so."""

    @pytest.fixture
    def open_box(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sandbox:
        monkeypatch.setenv("PATH", str(tmp_path))
        return Sandbox(run_untrusted_code=True)

    def test_results_say_so(self, open_box: Sandbox) -> None:
        results = open_box.run([program(RIGHT), program("def square(x): return x"), WholeProgram("assert 1")])
        assert [result.kind for result in results] == [Kind.PASSED, Kind.FAILED, Kind.PASSED]
        assert not any(result.is_isolated for result in results)

    def test_limits_hold(self, open_box: Sandbox) -> None:
        memory = program("def square(x): return bytes(3 * 2**30)")
        loop = program("def square(x):\n    while True: pass", seconds=0.3)
        file = program("def square(x):\n    with open('big', 'wb') as f: f.write(bytes(2**25))")
        results = open_box.run([memory, loop, file, program("import os; os._exit(0)")])
        assert [result.kind for result in results] == [Kind.OUT_OF_MEMORY, Kind.TIMED_OUT, Kind.FAILED, Kind.FAILED]
        assert "File too large" in results[2].detail

    def test_it_begins_in_a_folder_of_its_own_which_is_removed(self, open_box: Sandbox) -> None:
        (result,) = open_box.run([program(f"import os\nopen('left', 'w').close()\nprint(os.getcwd())\n{RIGHT}")])
        assert result.kind is Kind.PASSED, result
        assert not Path(result.output.strip()).exists()
