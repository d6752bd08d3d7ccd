"""The supervisor with children that misbehave."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from agent.child import supervisor as supervising
from agent.child.supervisor import ChildDied, Supervisor
from agent.orders.protocol import ChildProgress, Failed, LocalPhase, LocalProgress, OutOfMemory
from shared.credentials import SECRET_VARIABLES
from shared.wire.tasks.leases import Phase, Progress
from tests.agent.jobs import local_job
from tests.support.processes import RECORDED_CHILD

ANSWER = '{"type": "failed", "failure": {"kind": "data", "message": "no rows"}}'
MEMORY = '{"type": "out_of_memory", "peak_bytes": 1, "longest_row_tokens": 2}'
OTHER = '{"type": "merged", "merge_difference": 0, "file_difference": 0}'
"""The answer to another order."""
REPORT = '{"type": "report", "progress": {"phase": "training", "done": 1, "total": 2}}'


def child(script: str) -> Supervisor:
    """A supervisor of a child that runs a Python script; `say` in it writes a line to the parent."""
    head = "import os, signal, subprocess, sys, time\ndef say(line):\n    print(line, flush=True)\n"
    return Supervisor([sys.executable, "-c", head + script])


def ask(supervisor: Supervisor, folder: Path, times: int = 1, log: Path | None = None) -> list[object]:
    """The child's answers to *times* jobs, with its progress reports in between, without what precedes its first."""
    received: list[object] = []

    def on_progress(progress: ChildProgress) -> None:
        if progress.phase is not Phase.IMPORTING:
            received.append(progress)

    async def work() -> None:
        try:
            for _ in range(times):
                try:
                    received.append(await supervisor.run(local_job(folder), log or folder / "log", on_progress))
                except ChildDied as error:
                    received.append(error)
        finally:
            async with asyncio.timeout(10):
                await supervisor.stop()

    asyncio.run(work())
    return received


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_lines_that_are_not_messages_are_skipped(tmp_path: Path) -> None:
    garbage = f"input(); say('hello'); say('{{}}'); say('\\udcff'); say(''); say('{OTHER}')"
    script = f"sys.stdout.reconfigure(errors='surrogateescape')\n{garbage}; say('{REPORT}'); say('{ANSWER}'); input()"
    progress, answer = ask(child(script), tmp_path)
    assert isinstance(progress, Progress)
    assert isinstance(answer, Failed)


def test_phases_of_local_requests_are_reported_too(tmp_path: Path) -> None:
    local = '{"type": "report", "progress": {"phase": "merging"}}'
    first, second, _ = ask(child(f"input(); say('{local}'); say('{REPORT}'); say('{ANSWER}'); input()"), tmp_path)
    assert first == LocalProgress(phase=LocalPhase.MERGING)
    assert second == Progress(phase=Phase.TRAINING, done=1, total=2)
    assert not {phase.value for phase in LocalPhase} & {phase.value for phase in Phase}


def test_an_endless_line_is_skipped(tmp_path: Path) -> None:
    [answer] = ask(child(f"input(); say('x' * (9 << 20)); say('{ANSWER}'); input()"), tmp_path)
    assert isinstance(answer, Failed)


def test_a_child_that_starts_is_said_to_import_before_it_says_anything(tmp_path: Path) -> None:
    supervisor, phases = child(f"for line in sys.stdin: say('{ANSWER}')"), list[object]()

    async def work() -> None:
        for _ in range(2):
            await supervisor.run(local_job(tmp_path), tmp_path / "log", lambda progress: phases.append(progress.phase))
        assert phases == [Phase.IMPORTING], "the second order found it warm"
        await supervisor.stop()
        await supervisor.run(local_job(tmp_path), tmp_path / "log", lambda progress: phases.append(progress.phase))
        assert phases == [Phase.IMPORTING] * 2
        await supervisor.stop()

    asyncio.run(work())


def test_a_child_that_ends_after_each_job_is_started_again_or_reported_dead(tmp_path: Path) -> None:
    received = ask(child(f"input(); say('{ANSWER}')"), tmp_path, times=4)
    assert isinstance(received[0], Failed)
    assert all(isinstance(answer, Failed | ChildDied) for answer in received)


def test_a_child_that_floods_its_answers_can_be_ended(tmp_path: Path) -> None:
    [answer] = ask(child(f"input(); say('{ANSWER}')\nwhile True: say('x' * 100000)"), tmp_path)
    assert isinstance(answer, Failed)


@pytest.mark.parametrize(
    ("script", "exit_code", "out_of_memory"),
    [
        ("sys.exit(3)", 3, False),
        ("input(); os.kill(os.getpid(), signal.SIGKILL)", -9, True),
        ("input(); os.kill(os.getpid(), signal.SIGSEGV)", -11, False),
        ("input(); sys.exit(77)", 77, True),
    ],
)
def test_a_child_that_dies_says_how(tmp_path: Path, script: str, exit_code: int, out_of_memory: bool) -> None:
    [died] = ask(child(script), tmp_path)
    assert isinstance(died, ChildDied)
    assert (died.exit_code, died.out_of_memory) == (exit_code, out_of_memory)


@pytest.mark.parametrize(
    "last_action", [f"say('{MEMORY}')", "os.close(1)"], ids=["out of memory", "end of its answers"]
)
@pytest.mark.parametrize("has_sessions", [True, False], ids=["POSIX", "as on Windows"])
def test_a_child_that_lingers_after_its_last_message_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last_action: str, has_sessions: bool
) -> None:
    monkeypatch.setattr(supervising, "_STOP_GRACE_S", 0.2)
    if not has_sessions:
        monkeypatch.delattr(os, "killpg")
    [received] = ask(child(f"input(); {last_action}; time.sleep(60)"), tmp_path)
    assert isinstance(received, OutOfMemory | ChildDied)


def test_a_full_disk_costs_the_log_and_not_the_task(tmp_path: Path) -> None:
    script = f"input(); sys.stderr.write('x' * (1 << 20)); sys.stderr.flush(); say('{ANSWER}'); input()"
    [answer] = ask(child(script), tmp_path, log=Path("/dev/full"))
    assert isinstance(answer, Failed)
    [answer] = ask(child(script), tmp_path, log=tmp_path / "no such folder" / "log")
    assert isinstance(answer, Failed)


def test_what_the_child_prints_is_in_the_log(tmp_path: Path) -> None:
    ask(child(f"input(); sys.stderr.write('careful'); say('{ANSWER}')"), tmp_path)
    assert (tmp_path / "log").read_text() == "careful"


@pytest.mark.parametrize("ignores", ["pass", "signal.signal(signal.SIGTERM, signal.SIG_IGN)"])
def test_cancelling_ends_the_child_and_what_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ignores: str
) -> None:
    monkeypatch.setattr(supervising, "_STOP_GRACE_S", 0.2)
    pids = tmp_path / "pids"
    script = f"""
{ignores}
helper = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
open({str(pids)!r} + '.part', 'w').write(f'{{os.getpid()}} {{helper.pid}}')
os.rename({str(pids)!r} + '.part', {str(pids)!r})
time.sleep(60)
"""

    async def work() -> None:
        supervisor = child(script)  # it never reads its input
        job = asyncio.create_task(supervisor.run(local_job(tmp_path), tmp_path / "log", lambda _: None))
        while not pids.exists():  # noqa: ASYNC110 - another process writes it
            await asyncio.sleep(0.01)
        job.cancel()
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await job

    asyncio.run(work())
    own, _ = map(int, pids.read_text().split())
    assert not is_running(own)


def test_a_warm_child_does_the_next_job_too(tmp_path: Path) -> None:
    seen: list[str] = []
    supervisor = Supervisor(RECORDED_CHILD)

    async def work() -> None:
        for _ in range(2):
            await supervisor.run(local_job(tmp_path), tmp_path / "log", lambda _: None)
            seen.append((tmp_path / "child.pid").read_text())
        await supervisor.stop()
        await supervisor.stop()

    asyncio.run(work())
    assert seen[0] == seen[1]
    assert not is_running(int(seen[0]))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
def test_a_child_gets_no_secret_in_its_environment_or_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {"FEDLOOM_KEY", "FEDLOOM_DATABASE_PASSWORD", "PGPASSWORD"} <= set(SECRET_VARIABLES)
    for name in SECRET_VARIABLES:
        monkeypatch.setenv(name, "a-secret")
    monkeypatch.setenv("HF_TOKEN", "for the hub")
    seen = tmp_path / "seen"
    read = "b''.join(open(f'/proc/self/{name}', 'rb').read() for name in ('environ', 'cmdline'))"
    ask(child(f"input(); open({str(seen)!r}, 'wb').write({read}); say('{ANSWER}'); input()"), tmp_path)
    assert b"a-secret" not in seen.read_bytes()
    assert b"HF_TOKEN=for the hub" in seen.read_bytes()


def test_a_child_without_work_is_let_go_and_started_again_for_the_next(tmp_path: Path) -> None:
    supervisor = child(f"print(os.getpid(), file=sys.stderr)\nfor line in sys.stdin: say('{ANSWER}')")
    log = tmp_path / "log"

    async def work() -> None:
        order = local_job(tmp_path, idle_s=0.3)
        await supervisor.run(order, log, lambda _: None)
        await supervisor.run(order, log, lambda _: None)
        [first] = map(int, log.read_text().split())
        assert is_running(first), "it is kept while orders come"
        async with asyncio.timeout(10):
            while is_running(first):  # noqa: ASYNC110 -- another process ends
                await asyncio.sleep(0.05)
        assert isinstance(await supervisor.run(order, log, lambda _: None), Failed)
        assert len(log.read_text().split()) == 2
        await supervisor.stop()

    asyncio.run(work())


@pytest.mark.parametrize("pause_s", [0.0, 0.02, 0.05, 0.1])
def test_an_order_that_comes_while_the_child_is_let_go_is_answered(tmp_path: Path, pause_s: float) -> None:
    supervisor = child(f"for line in sys.stdin: say('{ANSWER}')")

    async def work() -> None:
        for _ in range(5):
            answer = await supervisor.run(local_job(tmp_path, idle_s=0.02), tmp_path / "log", lambda _: None)
            assert isinstance(answer, Failed)
            await asyncio.sleep(pause_s)
        await supervisor.stop()

    asyncio.run(work())
