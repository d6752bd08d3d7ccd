"""A pytest plugin that gives each test the umask the run began with: some commands set their own in this process."""

import os
from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Generator[None, bool | None, bool | None]:
    before = os.umask(0o077)
    os.umask(before)
    try:
        return (yield)
    finally:
        os.umask(before)
