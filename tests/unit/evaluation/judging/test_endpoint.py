"""Where a judge may be, and what of its key is ever said."""

import json
import time

import pytest

from fedloom.errors import EvaluationError
from fedloom.evaluation.judging.endpoint import Endpoint, endpoint_of, key_hint
from fedloom.evaluation.judging.judge import judge_of

KEY = "sk-a-very-secret-key"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDLOOM_JUDGE_KEY", raising=False)


def test_the_key_is_that_of_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLOOM_JUDGE_KEY", f" {KEY}\n")
    found = endpoint_of("https://judge.example/v1/", "m")
    assert found is not None
    assert (found.url, found.key, str(found)) == ("https://judge.example/v1", KEY, "m at judge.example")
    assert KEY not in repr(found)
    assert found.without_key(f"x {KEY} y") == "x [key] y"


def test_a_key_with_characters_that_json_escapes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLOOM_JUDGE_KEY", 'a"b\\c')
    found = endpoint_of("https://judge.example/v1", "m")
    assert found is not None
    assert found.without_key(r'{"you": "a\"b\\c"}') == '{"you": "[key]"}'


@pytest.mark.parametrize("key", ["sk-a/b+c", "a\\b", "a\\\\/b", "\\x", "k\\", "aab//++", "0" * 40 + "1"])
def test_it_is_found_however_a_writer_of_json_escapes_it(key: str) -> None:
    endpoint = Endpoint("https://judge.example/v1", "m", key)
    thrice = [key]
    for _ in range(3):
        thrice.append(json.dumps(thrice[-1]))
    escaped = ["".join(f"\\u{ord(each):04X}" for each in key), key.replace("/", "\\/").replace("+", "\\u002b")]
    for text in (*thrice, *escaped):
        assert "[key]" in endpoint.without_key(f"before {text} after"), text


@pytest.mark.parametrize("part", ["s", "\\u0073", "\\" * 8 + "s", "\\"])
def test_a_server_that_knows_it_cannot_keep_the_search_busy(part: str) -> None:
    """Texts that begin like the key at each place."""
    endpoint = Endpoint("https://judge.example/v1", "m", "s" * 40 + "k")
    text = part * (100_000 // len(part))
    began = time.process_time()
    assert endpoint.without_key(text) == text
    assert time.process_time() - began < 5  # it takes a tenth of that


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://judge.example/v1", "FEDLOOM_JUDGE_KEY would be sent to judge.example unencrypted; use https://"),
        ("http://10.0.0.7:8000/v1", "would be sent to 10.0.0.7:8000 unencrypted"),
        ("http://x.localhost/v1", "would be sent to x.localhost unencrypted"),
        ("https://me:hunter2@judge.example/v1", "https://… is not a URL of a judge: a user name or password"),
        ("https://judge.example/v1?key=hunter2", "it has a ? or #, and a secret there would be stored"),
        ("judge.example/v1", "the text is not a URL of a judge"),
        ("ftp://judge.example", "it needs the form http://HOST:PORT"),
        ("https://judge.example:99999/v1", "is not a URL of a judge"),
        ("https://judge.example/v 1", "it has a space or another character"),
        ("https://", "it needs the form"),
    ],
)
def test_urls_that_are_refused(monkeypatch: pytest.MonkeyPatch, url: str, said: str) -> None:
    monkeypatch.setenv("FEDLOOM_JUDGE_KEY", KEY)
    with pytest.raises(EvaluationError) as refused:
        endpoint_of(url, "m")
    assert said in str(refused.value)
    assert "hunter2" not in str(refused.value)
    assert KEY not in str(refused.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "http://localhost:1/v1", "http://[::1]:8000/v1"])
def test_a_key_may_go_to_this_machine(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("FEDLOOM_JUDGE_KEY", KEY)
    found = endpoint_of(url, "m")
    assert found is not None
    assert found.is_on_this_machine
    assert not found.is_readable_on_the_way


def test_without_a_key_plain_http_is_allowed_and_told() -> None:
    found = endpoint_of("http://judge.example/v1", "m")
    assert found is not None
    assert found.is_readable_on_the_way


def test_a_bad_key_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLOOM_JUDGE_KEY", f"{KEY} {KEY}")
    with pytest.raises(EvaluationError, match="has a space or another character that no key has") as refused:
        endpoint_of("https://judge.example/v1", "m")
    assert KEY not in str(refused.value)


def test_a_misspelt_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDLOOM_JUDGE_KEYS", KEY)
    found = endpoint_of("https://judge.example/v1", "m")
    assert found is not None
    assert "did you mean FEDLOOM_JUDGE_KEY?" in key_hint(found)


@pytest.mark.parametrize("most", [0, -1, 1.5, "many"])
def test_a_number_of_tokens(most: object) -> None:
    with pytest.raises(EvaluationError, match="--judge-max-tokens is a whole number from 1 on"):
        judge_of("https://judge.example/v1", "m", most)  # type: ignore[arg-type]


def test_nobody_named_is_no_judge() -> None:
    assert judge_of(None, None) is None
    with pytest.raises(EvaluationError, match="needs both"):
        judge_of(None, "m")
