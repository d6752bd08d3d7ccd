"""The suite itself: every test has one tier, and the end of a run reports where its time went."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import ROOT
from tests.support.suite.tiers import deep

TESTS = """
import time
import pytest

def test_quick():
    pass

@pytest.mark.deep
def test_slow():
    time.sleep(0.3)

@pytest.fixture
def place():
    time.sleep(0.03)
    yield
    time.sleep(0.03)

@pytest.mark.parametrize("number", range(12))
def test_in_its_place(place, number):
    pass
"""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """A small suite with the markers and the plugins of this one."""
    markers = ["deep: .", "soak: .", "real: ."]
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n" + "".join(f"    {each}\n" for each in markers))
    (tmp_path / "conftest.py").write_text(
        'pytest_plugins = ["tests.support.suite.tiers", "tests.support.suite.times"]\n'
    )
    (tmp_path / "tests" / "unit").mkdir(parents=True)
    (tmp_path / "tests" / "unit" / "test_it.py").write_text(TESTS)
    (tmp_path / "tests" / "test_other.py").write_text("def test_other():\n    pass\n")
    return tmp_path


def run(suite: Path, *options: str) -> tuple[int, str]:
    """Run pytest. Returns its exit code and its output."""
    argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "xdist", "--strict-markers", *options]
    # without what the run that this test is part of has set
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # all plugins that are installed take two seconds
    environment |= {"PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ran = subprocess.run(argv, check=False, cwd=suite, env=environment, capture_output=True, text=True, timeout=120)
    return ran.returncode, ran.stdout + ran.stderr


@pytest.mark.parametrize(("options", "workers"), [((), "1 worker"), deep(("-n", "2"), "2 workers")])
def test_the_end_of_a_run_says_where_its_time_went(suite: Path, options: tuple[str, ...], workers: str) -> None:
    code, printed = run(suite, *options)
    assert code == 0, printed
    lines = printed[printed.index("where the time went") :].splitlines()[1:-1]
    assert len(lines) <= 20
    total, folder, other, slowest, *tests = lines
    match = re.fullmatch(rf" +(\d+\.\d) s of work in (\d+\.\d) s with {workers}", total)
    assert match, total
    assert 1.0 <= float(match[1]) < 10  # a test's time includes setup and teardown
    assert re.fullmatch(r" +\d+\.\d s  tests/unit, 14 tests", folder)
    assert re.fullmatch(r" +0\.0 s  tests, 1 tests", other)
    assert slowest == "the slowest 10:"
    assert len(tests) == 10
    assert all("unit/test_it.py::test_" in test for test in tests)
    seconds = [float(test.split()[0]) for test in tests]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] >= 0.05  # 0.06, rounded


def test_each_tier_has_its_tests_and_no_others(suite: Path) -> None:
    assert re.match(r"(?s).*test_slow.*1/15 tests collected", run(suite, "--collect-only", "-m", "deep")[1])
    assert "14/15 tests collected" in run(suite, "--collect-only", "-m", "not (deep or soak or real)")[1]


def with_both(suite: Path, of_file: str, of_test: str) -> None:
    marked = f"import pytest\npytestmark = pytest.mark.{of_file}\n@pytest.mark.{of_test}\ndef test_both():\n    pass\n"
    (suite / "tests" / "test_both.py").write_text(marked)


@pytest.mark.parametrize("of_test", ["deep", "soak"])
def test_a_test_of_the_real_model_is_of_no_other_tier(suite: Path, of_test: str) -> None:
    with_both(suite, "real", of_test)
    code, printed = run(suite)
    assert code == pytest.ExitCode.USAGE_ERROR
    assert f"tests/test_both.py::test_both is of several tiers: {', '.join(sorted(('real', of_test)))}" in printed


def test_a_test_of_the_deep_and_the_soak_tier_is_of_the_soak_tier(suite: Path) -> None:
    """As one of a deep parameter with a soak one."""
    with_both(suite, "deep", "soak")
    assert "1/16 tests collected" in run(suite, "--collect-only", "-m", "deep and not soak")[1]
    assert "1/16 tests collected" in run(suite, "--collect-only", "-m", "soak")[1]
