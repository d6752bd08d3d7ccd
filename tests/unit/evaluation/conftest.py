"""The sandbox, where bubblewrap is installed."""

import shutil

import pytest

from fedloom.evaluation.sandbox.sandbox import Sandbox


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    """Fails where bubblewrap is installed and does not work."""
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap is not installed")
    return Sandbox()
