"""Which proxy a request goes through, and that it really does."""

import asyncio
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fault_server
import pytest
from fault_server import tls
from yarl import URL

import interalign as ia
from interalign.config import Runtime, build
from interalign.errors import ConfigError
from interalign.models.openai import openai_model
from interalign.models.proxies import proxy_for

PROXY = "http://proxy.example:3128"


@pytest.fixture(autouse=True)
def no_proxy_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def found(monkeypatch: pytest.MonkeyPatch, address: str, **variables: str) -> str | None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(URL(address))
    return None if proxy is None else str(proxy)


@pytest.mark.parametrize(
    ("address", "variables", "proxy"),
    [
        ("http://h/v1", {"http_proxy": PROXY}, PROXY),
        ("http://h/v1", {"HTTP_PROXY": PROXY}, PROXY),
        ("https://h/v1", {"HTTPS_PROXY": PROXY}, PROXY),
        ("https://h/v1", {"http_proxy": PROXY}, None),
        ("https://h/v1", {"ALL_PROXY": PROXY}, PROXY),
        ("http://h/v1", {"all_proxy": PROXY}, PROXY),
        ("http://h/v1", {"all_proxy": "http://other:1", "http_proxy": PROXY}, PROXY),
        ("http://h/v1", {"http_proxy": PROXY, "HTTP_PROXY": "http://other:1"}, PROXY),
        ("http://h/v1", {"http_proxy": "proxy.example:3128"}, PROXY),
        ("http://h/v1", {"http_proxy": ""}, None),
        ("http://localhost:8/v1", {"http_proxy": PROXY}, None),
        ("http://127.0.0.1:8/v1", {"all_proxy": PROXY}, None),
        ("http://127.8.8.8:8/v1", {"http_proxy": PROXY}, None),
        ("http://[::1]:8/v1", {"http_proxy": PROXY}, None),
        ("http://h/v1", {}, None),
    ],
)
def test_the_proxy_is_that_of_the_scheme_or_of_all(
    address: str, variables: dict[str, str], proxy: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert found(monkeypatch, address, **variables) == (proxy if proxy is None else str(URL(proxy)))


@pytest.mark.parametrize(
    ("no_proxy", "address", "direct"),
    [
        ("*", "http://h/v1", True),
        ("h", "http://h/v1", True),
        ("H", "http://h/v1", True),
        ("h", "http://other/v1", False),
        ("example.org", "http://llm.example.org/v1", True),
        (".example.org", "http://llm.example.org/v1", True),
        (".example.org", "http://example.org/v1", True),
        ("*.example.org", "http://llm.example.org/v1", True),
        ("example.org", "http://notexample.org/v1", False),
        ("a.org, b.org ,c.org", "http://b.org/v1", True),
        ("a.org b.org", "http://b.org/v1", True),
        ("10.0.0.0/8", "http://10.1.2.3:8000/v1", True),
        ("10.0.0.0/8", "http://11.1.2.3:8000/v1", False),
        ("10.0.0.7/8", "http://10.9.9.9/v1", True),
        ("192.168.1.5", "http://192.168.1.5:8000/v1", True),
        ("192.168.1.5", "http://192.168.1.55:8000/v1", False),
        ("fd00::/8", "http://[fd00::7]:8000/v1", True),
        ("[fd00::7]:8000", "http://[fd00::7]:8000/v1", True),
        ("fd00::7", "http://[fd00::7]:8000/v1", True),
        ("h:8000", "http://h:8000/v1", True),
        ("h:8000", "http://h:9000/v1", False),
        ("h:443", "https://h/v1", True),
        ("h:80", "http://h/v1", True),
        ("10.0.0.0/8:8000", "http://10.1.2.3:8000/v1", True),
        ("http", "http://h/v1", False),
        (",, ", "http://h/v1", False),
        (".", "http://h/v1", False),
    ],
)
@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
def test_no_proxy_names_hosts_domains_addresses_ranges_and_ports(
    name: str, no_proxy: str, address: str, direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = None if direct else str(URL(PROXY))
    assert found(monkeypatch, address, all_proxy=PROXY, **{name: no_proxy}) == expected


@pytest.mark.parametrize(
    ("variable", "proxy", "said"),
    [
        ("ALL_PROXY", "socks5://user:hidden-word@127.0.0.1:9", "ALL_PROXY is a socks5 proxy (socks5://127.0.0.1:9)"),
        ("http_proxy", "socks4://127.0.0.1:9", "http_proxy is a socks4 proxy"),
        ("HTTP_PROXY", "http://", "HTTP_PROXY is no address of an HTTP proxy"),
        ("HTTP_PROXY", "http://proxy:port", "HTTP_PROXY is no address of an HTTP proxy"),
        ("http_proxy", "ftp://proxy:21", "http_proxy is no address of an HTTP proxy"),
        ("http_proxy", "http://user:hidden-word@", "http_proxy is no address of an HTTP proxy"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_refused_and_named(
    variable: str, proxy: str, said: str, cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, proxy)
    ended = cli("simulate", "run.db", "--candidate", "openai:m", "--base-url", "http://llm.example/v1")
    assert ended.code == 2
    assert said in ended.err
    assert "or list llm.example in NO_PROXY" in ended.err
    assert "hidden-word" not in ended.err
    assert not Path("run.db").exists()


def test_a_proxy_that_no_server_of_the_run_needs_is_not_looked_at(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:9")
    assert cli("simulate", "run.db", "--trees", "1", "--turns", "1").code == 0
    with fault_server.serving() as server:
        shape = ("--trees", "1", "--turns", "1", "--candidate", "openai:m", "--base-url", server.url)
        assert cli("simulate", "own.db", *shape).code == 0


def ask(url: str, **runtime: object) -> str:
    async def work() -> str:
        model = openai_model("openai:m", build(Runtime, {"base_url": url, "deadline": 2, **runtime}))
        try:
            return (await model([ia.Message(role="user", content="Hi.")], ia.Parameters(), 0)).text
        finally:
            await model.close()

    return asyncio.run(work())


def test_requests_go_through_the_proxy_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    with fault_server.serving() as proxy:
        monkeypatch.setenv("ALL_PROXY", proxy.url.replace("http://", "http://me:hidden-word@").removesuffix("/v1"))
        assert ask("http://llm.example/v1")
    assert proxy.headers[0].startswith("POST http://llm.example/v1/chat/completions ")
    assert "Proxy-Authorization: Basic " in proxy.headers[0]


def test_a_server_may_have_a_proxy_of_its_own_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    with fault_server.serving() as proxy, fault_server.serving() as server:
        monkeypatch.setenv("PROXY_ADDRESS", proxy.url.removesuffix("/v1"))
        assert ask(server.url, servers={server.url: {"proxy": "${PROXY_ADDRESS}"}})
        assert (len(proxy.asked), len(server.asked)) == (1, 0)
        monkeypatch.setenv("http_proxy", "socks5://127.0.0.1:9")
        assert openai_model(
            "openai:m", build(Runtime, {"base_url": "http://h/v1", "servers": {"http://h": {"proxy": "none"}}})
        )


def test_a_key_is_not_sent_in_clear_through_a_proxy_that_only_the_environment_names(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890")
    with fault_server.serving() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        with pytest.raises(ConfigError, match=r"would be sent in clear through the proxy 127.0.0.1; use https, list"):
            ask("http://llm.example/v1")
        assert proxy.headers == []
        assert ask("http://llm.example/v1", servers={"http://llm.example": {"proxy": proxy.url.removesuffix("/v1")}})


@pytest.mark.parametrize(
    ("status", "said"), [(407, "the proxy before http://llm.example/v1 wants a login"), (403, "refuses access")]
)
def test_a_proxy_that_lets_nothing_through_stops_the_run(
    status: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_server.serving(lambda body: {"status": status, "text": ""}) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        with pytest.raises(ia.StopError, match=said):
            ask("http://llm.example/v1")
        assert len(proxy.asked) == 1


def test_a_proxy_behind_tls_is_used_if_its_certificate_is_trusted(
    certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    with fault_server.serving(tls=tls(certificate)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.removesuffix("/v1"))
        with pytest.raises(ia.StopError, match="no secure connection"):
            ask("http://llm.example/v1")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
        assert ask("http://llm.example/v1")
    assert proxy.headers[0].startswith("POST http://llm.example/v1/chat/completions ")


@contextmanager
def tunnel(status: str) -> Iterator[tuple[int, list[str]]]:
    """A proxy that answers every CONNECT with this status and forwards nothing; its port and what it was asked."""
    seen: list[str] = []

    class Refusing(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            lines = iter(self.rfile.readline, b"\r\n")
            seen.append(b"".join(lines).decode())
            self.wfile.write(f"HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n".encode())

    with socketserver.TCPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_address[1], seen
        finally:
            server.shutdown()
            thread.join()


def test_a_proxy_that_refuses_a_tunnel_stops_the_run_and_sees_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-canary-1234567890")
    with tunnel("407 Proxy Authentication Required") as (port, seen):
        monkeypatch.setenv("https_proxy", f"http://me:hidden-word@127.0.0.1:{port}")
        with pytest.raises(ia.StopError, match=r"407 .* through the proxy 127.0.0.1:\d+\); mend the proxy") as error:
            ask("https://llm.example/v1")
    assert "hidden-word" not in str(error.value)
    assert seen[0].startswith("CONNECT llm.example:443 ")
    assert "sk-canary" not in seen[0]


def test_a_proxy_that_does_not_reach_the_server_just_now_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with tunnel("502 Bad Gateway") as (port, seen):
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        with pytest.raises(ia.StopError, match=r"cannot be reached \(502 Bad Gateway through the proxy 127"):
            ask("https://llm.example/v1", deadline=0.5)
    assert len(seen) > 1


def test_a_certificate_file_that_is_not_there_is_refused_and_named(cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/authorities.pem")
    ended = cli("simulate", "run.db", "--candidate", "openai:m", "--base-url", "https://127.0.0.1:9/v1")
    assert (ended.code, Path("run.db").exists()) == (2, False)
    assert "SSL_CERT_FILE names '/nowhere/authorities.pem', which cannot be read" in ended.err
