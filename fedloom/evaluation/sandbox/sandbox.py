"""Many programs, side by side on the cores that are there."""

import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

from fedloom.evaluation.sandbox import orphans
from fedloom.evaluation.sandbox.execution import Execution, Stopped
from fedloom.evaluation.sandbox.isolation import HOW, NoIsolation, find_bubblewrap
from fedloom.evaluation.sandbox.limits import FUNCTION, Limits
from fedloom.evaluation.sandbox.program import Kind, Program, Result, WholeProgram
from shared.system.cores import n_cores

TRIAL = Program(
    "import heapq\ndef trial():\n    return heapq.heappop([7])", "assert trial() == 7", ("trial",), seconds=60
)
"""Passes wherever the sandbox works; it imports, for the user within may be denied what its starter may read."""


class Sandbox:
    """Runs programs that a model wrote.

    Args:
        run_untrusted_code: run without isolation; results say so.
        limits: of each process.

    Raises:
        NoIsolation: bubblewrap does not work here, and *run_untrusted_code* is not set.
    """

    def __init__(self, run_untrusted_code: bool = False, limits: Limits = FUNCTION) -> None:
        self._bubblewrap = None if run_untrusted_code else find_bubblewrap()
        self._limits = limits
        if self._bubblewrap:
            tried = self.run([TRIAL])[0]
            if tried.kind is not Kind.PASSED:
                raise NoIsolation(f"Programs do not run in bubblewrap here: {tried.kind}, {tried.detail}. {HOW}")

    @property
    def is_isolated(self) -> bool:
        return self._bubblewrap is not None

    def run(
        self, programs: Sequence[Program | WholeProgram], on_result: Callable[[], None] = lambda: None
    ) -> list[Result]:
        """Run programs, one on each core, and return their results in order. An interrupt kills what is running.

        on_result: called after each program; what it raises ends the others.
        """
        stop = threading.Event()
        results = []
        with orphans.adopted(), ThreadPoolExecutor(n_cores(), "sandbox") as threads:
            try:
                futures = [threads.submit(self._run_one, program, stop) for program in programs]
                for future in futures:
                    results.append(future.result())
                    on_result()
            except BaseException:  # Ctrl-C too
                stop.set()
                threads.shutdown(cancel_futures=True)
                raise
        return results

    def _run_one(self, program: Program | WholeProgram, stop: threading.Event) -> Result:
        """Run one program, and once more if the sandbox itself failed."""
        result = self._try_one(program, stop)
        return self._try_one(program, stop) if result.kind is Kind.HARNESS_ERROR else result

    def _try_one(self, program: Program | WholeProgram, stop: threading.Event) -> Result:
        if stop.is_set():
            raise Stopped
        try:
            with ExitStack() as opened:
                execution = Execution(opened, secrets.token_hex(16), self._limits, self._bubblewrap, stop)
                if isinstance(program, Program):
                    execution.start_two(program)
                else:
                    execution.start_one(program)
                result = execution.follow(program.seconds)
        except (OSError, ModuleNotFoundError) as error:
            result = Result(Kind.HARNESS_ERROR, f"{type(error).__name__}: {error}")
        return replace(result, is_isolated=self.is_isolated)
