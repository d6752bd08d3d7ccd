"""Digests that are kept: a file with other content is another one, whatever its size and time say."""

import os
from pathlib import Path

import pytest

from agent.data.digest_cache import DigestCache
from shared.digest import sha256_file


@pytest.mark.parametrize("in_place", [True, False])
def test_a_file_that_was_changed_under_an_old_time_is_read_again(tmp_path: Path, in_place: bool) -> None:
    file, cache = tmp_path / "weights", DigestCache(tmp_path / "cache" / "digests.json")
    file.write_bytes(b"a" * 100)
    times = (file.stat().st_atime_ns, file.stat().st_mtime_ns)
    first = cache.sha256(file)
    other = file if in_place else tmp_path / "other"
    other.write_bytes(b"b" * 100)
    os.utime(other, ns=times)
    other.replace(file)
    assert cache.sha256(file) == sha256_file(file) != first
    assert DigestCache(tmp_path / "cache" / "digests.json").sha256(file) == sha256_file(file)


def test_a_file_that_was_not_changed_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "weights", DigestCache(tmp_path / "digests.json")
    file.write_bytes(b"a" * 100)
    first = cache.sha256(file)
    monkeypatch.setattr("agent.data.digest_cache.sha256_file", lambda _: "another")
    assert cache.sha256(file) == first
