"""Digests against published values."""

import hashlib
from pathlib import Path

import pytest

from shared.digest import (
    content_digest_header,
    matches_content_digest,
    sha256_file,
    sha256_hex,
    sha256_of_parts,
)

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, appendix B.1


def test_known_digests(tmp_path: Path) -> None:
    assert sha256_hex(b"") == EMPTY
    assert sha256_hex(memoryview(b"abc")) == ABC
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a") == ABC


def test_a_file_larger_than_a_buffer_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "a").write_bytes(data)
    assert sha256_file(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_lists_of_strings_that_join_to_the_same_text_differ() -> None:
    lists = [["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], ["", "abc"], ["ab", "", "c"]]
    assert len({sha256_of_parts(parts) for parts in lists}) == len(lists)
    assert sha256_of_parts([]) == EMPTY
    assert sha256_of_parts(["é"]) == sha256_hex(b"\0\0\0\0\0\0\0\x02\xc3\xa9")


def test_content_digest_header_has_the_form_of_rfc_9530() -> None:
    # RFC 9530, appendix D: the digest of {"hello": "world"} and a line feed
    body = b'{"hello": "world"}\n'
    assert content_digest_header(body) == "sha-256=:RK/0qy18MlBSVnWgjwz6lZEWjP/lF5HF9bvEF8FabDg=:"
    assert matches_content_digest(hashlib.sha256(body).digest(), content_digest_header(body))


def test_sha_256_is_found_among_other_digests() -> None:
    assert matches_content_digest(bytes.fromhex(ABC), f"sha-512=:AAAA:, {content_digest_header(b'abc')}")
    assert matches_content_digest(bytes.fromhex(ABC), content_digest_header(b"abc").replace("sha-256", "SHA-256"))


@pytest.mark.parametrize(
    "header",
    [
        "",
        "sha-256",
        "sha-256=",
        "sha-256=:",
        "sha-256=::",
        "sha-256=:not base64!:",
        "sha-256=:é:",
        "sha-256=:AAAA:",
        "sha-512=:AAAA:",
        content_digest_header(b"abd"),
        content_digest_header(b"abc").replace(":", ""),
    ],
)
def test_a_header_that_names_another_digest_or_none_never_matches(header: str) -> None:
    assert not matches_content_digest(bytes.fromhex(ABC), header)
