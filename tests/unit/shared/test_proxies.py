"""Which proxy a URL is reached by, as the environment says."""

import contextlib
from urllib.parse import urlsplit

import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.network.environment import BadEnvironment
from shared.network.no_proxy import is_direct
from shared.network.proxies import Proxy, proxy_for

NAMES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
HOST = "https://fed.example.org:8470"
PROXY = "http://proxy:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        ({"HTTPS_PROXY": PROXY}, Proxy(PROXY, "HTTPS_PROXY")),
        ({"https_proxy": PROXY}, Proxy(PROXY, "https_proxy")),
        ({"https_proxy": PROXY, "HTTPS_PROXY": "http://other:1"}, Proxy(PROXY, "https_proxy")),
        ({"ALL_PROXY": PROXY}, Proxy(PROXY, "ALL_PROXY")),
        ({"ALL_PROXY": "http://other:1", "HTTPS_PROXY": PROXY}, Proxy(PROXY, "HTTPS_PROXY")),
        ({"HTTP_PROXY": PROXY}, None),
        ({"HTTPS_PROXY": ""}, None),
        ({"HTTPS_PROXY": "", "ALL_PROXY": ""}, None),
        ({"HTTPS_PROXY": "proxy:3128"}, Proxy(PROXY, "HTTPS_PROXY")),
        ({"HTTPS_PROXY": " http://proxy:3128\n"}, Proxy(PROXY, "HTTPS_PROXY")),
        ({"HTTPS_PROXY": "http://[::1]:3128"}, Proxy("http://[::1]:3128", "HTTPS_PROXY")),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "example.org"}, None),
        ({"HTTPS_PROXY": PROXY, "no_proxy": "*"}, None),
        ({"HTTPS_PROXY": PROXY, "NO_PROXY": "localhost,[::1]"}, Proxy(PROXY, "HTTPS_PROXY")),
    ],
)
def test_the_environment_names_the_proxy(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: Proxy | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(HOST) == expected


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://localhost", "https://[::1]:2", "http://127.9.9.9"])
@pytest.mark.parametrize("value", [PROXY, "socks5://127.0.0.1:1080", "foo bar", "ftp://x"])
def test_this_machine_is_reached_directly(monkeypatch: pytest.MonkeyPatch, url: str, value: str) -> None:
    for name in NAMES[:3]:
        monkeypatch.setenv(name, value)
    assert proxy_for(url) is None


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_plain_http_does_not_go_through_a_proxy(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "http://user:word@proxy:3128")
    with pytest.raises(BadEnvironment) as caught:
        proxy_for("http://fed.example.org:8470")
    assert str(caught.value) == (
        f"{name} names a proxy, which would read the secrets that are sent to http://fed.example.org:8470: "
        "use https://, or add fed.example.org to NO_PROXY"
    )
    monkeypatch.setenv("NO_PROXY", "fed.example.org")
    assert proxy_for("http://fed.example.org:8470") is None


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("foo bar", "it needs the form http://HOST:PORT"),
        ("http://", "it needs the form http://HOST:PORT"),
        ("http://proxy:port", "it needs the form http://HOST:PORT"),
        ("http://proxy:99999", "it needs the form http://HOST:PORT"),
        ("http://[::1", "it needs the form http://HOST:PORT"),
        ("http://999.1.1.1:1", "it needs the form http://HOST:PORT"),
        ("http://user:s3cret@", "it needs the form http://HOST:PORT"),
        ("ftp://proxy:1", "unknown kind ftp://"),
        ("socks4://proxy:1", "unknown kind socks4://"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, value: str, says: str
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(BadEnvironment) as caught:
        proxy_for(HOST)
    assert str(caught.value).startswith("HTTPS_PROXY ")
    assert says in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_socks_proxy_without_its_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(BadEnvironment, match=r"^ALL_PROXY names a SOCKS proxy.* pip install 'httpx\[socks\]'"):
        proxy_for(HOST)
    monkeypatch.setenv("NO_PROXY", "fed.example.org")
    assert proxy_for(HOST) is None


def test_a_proxy_is_shown_without_its_password() -> None:
    assert str(Proxy("http://user:word@proxy:3128", "ALL_PROXY")) == "http://proxy:3128, which ALL_PROXY names"


@settings(deadline=None)
@given(st.text(alphabet=st.characters(max_codepoint=0x17F), max_size=30))
@example("A/\x1b")
def test_every_proxy_that_is_accepted_is_one_for_the_http_library(text: str) -> None:
    if "\x00" in text:
        return  # no environment variable holds it
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", text)
        patch.setattr("importlib.util.find_spec", lambda _: None)
        with contextlib.suppress(BadEnvironment):
            proxy = proxy_for(HOST)
            if proxy is not None:
                httpx.Client(proxy=proxy.url, trust_env=False).close()


@pytest.mark.parametrize(
    ("entries", "url", "direct"),
    [
        ("", HOST, False),
        ("*", HOST, True),
        ("example.org", HOST, True),
        (".example.org", HOST, True),
        ("*.example.org", HOST, True),
        ("ample.org", HOST, False),
        ("FED.Example.ORG", HOST, True),
        ("other, fed.example.org", HOST, True),
        ("other fed.example.org", HOST, True),
        ("fed.example.org:8470", HOST, True),
        ("fed.example.org:443", HOST, False),
        ("fed.example.org:443", "https://fed.example.org", True),
        ("fed.example.org:80", "http://fed.example.org", True),
        ("10.0.0.1", "https://10.0.0.1", True),
        ("10.0.0.1:8470", "https://10.0.0.1:8470", True),
        ("10.0.0.1:8470", "https://10.0.0.1", False),
        ("10.0.0.0/8", "https://10.1.2.3", True),
        ("10.1.2.3/8", "https://10.9.9.9", True),
        ("10.0.0.0/8", "https://11.0.0.1", False),
        ("10.0.0.0/8", HOST, False),
        ("2001:db8::1", "https://[2001:db8::1]:8470", True),
        ("[2001:db8::1]", "https://[2001:DB8:0::1]", True),
        ("[2001:db8::1]:8470", "https://[2001:db8::1]:8470", True),
        ("[2001:db8::1]:8470", "https://[2001:db8::1]", False),
        ("2001:db8::/32", "https://[2001:db8::1]", True),
        ("[2001:db8::]/32", "https://[2001:db8::1]", True),
        ("2001:db8::/32", "https://10.0.0.1", False),
        ("[::1, ]:,:::,/8,10.0.0.0/99,.,*.,[x]", HOST, False),
    ],
)
def test_no_proxy(entries: str, url: str, direct: bool) -> None:
    assert is_direct(urlsplit(url), entries) is direct
