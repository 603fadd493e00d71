"""How a registry is reached: by proxies, and with certificates."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ocirt.errors import ImageError, RegistryError, UnsupportedError
from ocirt.image.proxies import proxy
from ocirt.image.reference import Location
from ocirt.image.transport import Access, open_source
from tests import support
from tests.image.asking import (
    MANIFEST,
    OPEN,
    SECRET,
    all_words,
    deaf,
    fine,
    manifest,
)
from tests.image.servers import Certificates, Exchange, Server, serving

pytestmark = pytest.mark.usefixtures("home")


# Ways there.


@contextmanager
def proxy_to(server: Server, monkeypatch: pytest.MonkeyPatch, variable: str) -> Iterator[Server]:
    """A proxy that takes every host for ``server``, in a variable of the environment, with a password of its own."""

    def answered(exchange: Exchange) -> None:
        if exchange.command != "CONNECT":
            fine(exchange)
            return
        exchange.send_response(200)
        exchange.end_headers()
        exchange.close_connection = True
        host, _, port = server.host.partition(":")
        with socket.create_connection((host, int(port))) as other:
            back = threading.Thread(target=_relay, args=(other, exchange.connection))
            back.start()
            _relay(exchange.connection, other)
            back.join()

    with serving(answered) as made:
        monkeypatch.setenv(variable, f"http://proxy:{SECRET}@{made.host}")
        yield made


def _relay(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # one of them is gone, and so are we


def test_through_a_proxy_without_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(fine) as server, proxy_to(server, monkeypatch, "HTTP_PROXY") as proxy:
        with open_source(Location("docker", "registry.example/app"), OPEN) as source:
            assert source.manifest().data == MANIFEST
        (request,) = proxy.requests
        assert request.path == "http://registry.example/v2/app/manifests/latest"
        expected = base64.b64encode(f"proxy:{SECRET}".encode()).decode()
        assert request.headers["Proxy-Authorization"] == f"Basic {expected}"


@pytest.mark.parametrize("variable", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
def test_through_a_proxy_with_tls(monkeypatch: pytest.MonkeyPatch, certificates: Certificates, variable: str) -> None:
    """It sees whom we want to speak to and nothing of what we say; whom we speak to sees nothing of the proxy's."""
    with serving(fine, certificates) as server, proxy_to(server, monkeypatch, variable) as proxy:
        with open_source(Location("docker", "registry.example/app"), Access(ca=certificates.ca)) as source:
            assert source.manifest().data == MANIFEST
        assert [(request.method, request.path) for request in proxy.requests] == [("CONNECT", "registry.example:443")]
        assert "Proxy-Authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("names", "host", "is_direct"),
    [
        ("*", "registry.example", True),
        ("example", "registry.example", True),
        (".example", "registry.example", True),
        ("other,  REGISTRY.EXAMPLE:443", "registry.example", True),
        ("registry.example:80", "registry.example", False),
        ("ry.example", "registry.example", False),
        (",,", "registry.example", False),
        ("10.0.0.0/8", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.1", True),
        ("[2001:db8::1]:443", "[2001:db8::1]", True),
        ("2001:db8::/32", "[2001:db8::1]", True),
        ("11.0.0.0/8,10.0.0.1:80", "10.0.0.1", False),
    ],
)
def test_whom_no_proxy_names(monkeypatch: pytest.MonkeyPatch, names: str, host: str, is_direct: bool) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example:8080")
    monkeypatch.setenv("NO_PROXY", names)
    assert proxy("https", host, 443) == (None if is_direct else "http://proxy.example:8080")


def test_this_machine_is_not_asked_for_by_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(fine) as server, proxy_to(server, monkeypatch, "HTTP_PROXY") as proxy:
        manifest(server)
        assert (len(server.requests), proxy.requests) == (1, [])


def test_a_broken_proxy_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    with deaf() as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:{SECRET}@127.0.0.1:{port}")
        with (
            open_source(Location("docker", "registry.example/app"), Access(retries=0)) as source,
            pytest.raises(RegistryError, match=r"by its proxy.*Connection refused") as caught,
        ):
            source.manifest()
    assert SECRET not in all_words(caught.value)


def test_proxies_of_other_kinds_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"socks5://me:{SECRET}@127.0.0.1:1")
    with (
        open_source(Location("docker", "registry.example/app"), Access()) as source,
        pytest.raises(UnsupportedError, match=r"socks5://127.0.0.1:1") as caught,
    ):
        source.manifest()
    assert SECRET not in all_words(caught.value)


# Certificates.


def test_a_name_must_be_the_certificate_s(certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(fine, certificates) as server, proxy_to(server, monkeypatch, "HTTPS_PROXY"):
        with (
            open_source(Location("docker", "other.example/app"), Access(ca=certificates.ca)) as source,
            pytest.raises(RegistryError, match=r"certificate is not trusted: .*other.example"),
        ):
            source.manifest()
        with open_source(Location("docker", "other.example/app"), Access(verify=False)) as source:
            assert source.manifest().data == MANIFEST


def test_our_certificate_is_shown_to_whom_it_is_for(certificates: Certificates, home: Path) -> None:
    certificates.sign("client", "extendedKeyUsage=clientAuth")
    with serving(fine, certificates, demands=True) as server, serving(fine, certificates, demands=True) as other:
        directory = home / ".config/containers/certs.d" / server.host
        directory.mkdir(parents=True)
        for source, name in (("ca.crt", "ca.crt"), ("client.crt", "client.cert"), ("client.key", "client.key")):
            (directory / name).write_bytes((certificates.directory / source).read_bytes())
        assert manifest(server, Access()).data == MANIFEST
        with pytest.raises(RegistryError):
            manifest(other, Access(ca=certificates.ca, retries=0))


@pytest.mark.parametrize("name", ["x.cert", "x.key"])
def test_half_of_a_certificate_is_told(certificates: Certificates, home: Path, name: str) -> None:
    with serving(fine, certificates) as server:
        directory = home / ".config/containers/certs.d" / server.host
        directory.mkdir(parents=True)
        (directory / name).touch()
        with pytest.raises(ImageError, match="is of no use without"):
            manifest(server, Access(ca=certificates.ca))


@pytest.mark.parametrize("content", [None, b"", b"nonsense"])
def test_a_broken_authority_is_told(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_bytes(content)
    with (
        open_source(Location("docker", "127.0.0.1:1/app"), Access(ca=tmp_path / "ca.pem")) as source,
        pytest.raises(ImageError, match=r"ca.pem: cannot be used as a certificate"),
    ):
        source.manifest()


def test_without_urllib3_there_is_a_remedy() -> None:
    words = support.python(
        "import sys; sys.modules['urllib3'] = None\n"
        "from ocirt import OCIError\n"
        "from ocirt.image.reference import Location\n"
        "from ocirt.image.transport import Access, open_source\n"
        "try: open_source(Location.parse('debian'), Access())\n"
        "except OCIError as error: print(type(error).__name__, error)\n"
    )
    assert words == "UnsupportedError docker://: needs urllib3: pip install 'ocirt[image]'\n"
