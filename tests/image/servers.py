"""Servers for tests, on loopback and ports that nobody else has: Debian's registry, and ones that misbehave."""

from __future__ import annotations

import base64
import json
import re
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from attrs import Factory, define, frozen

from tests.support import SECONDS

USER, PASSWORD = "someone", "a secret: with colon"
# bcrypt of it; Python has no crypt(3) from 3.13 on.
HTPASSWD = f"{USER}:$2b$04$Jv2Xm.D1KU7MtP/kYKYRpe67hvUJWh7TRsBTeI3Oo8fFhnzBmBiQS\n"


def needs(program: str, package: str) -> str:
    """Its path; without it, the test is skipped."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {program} (Debian: apt-get install {package})")
    return found


@frozen
class Certificates:
    """An authority of the test's own, and what it has signed for this machine and registry.example."""

    ca: Path
    certificate: Path
    key: Path
    directory: Path

    @classmethod
    def make(cls, directory: Path) -> Certificates:
        made = cls(directory / "ca.crt", directory / "server.crt", directory / "server.key", directory)
        made.sign_itself("ca", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
        made.sign("server", "subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:registry.example")
        return made

    def sign_itself(self, name: str, *extensions: str) -> None:
        added = [word for extension in extensions for word in ("-addext", extension)]
        self._openssl("req", "-x509", *self._new(name), "-days", "2", "-out", f"{name}.crt", *added)

    def sign(self, name: str, extensions: str) -> None:
        """A certificate and its key, by our authority."""
        self._openssl("req", *self._new(name), "-out", f"{name}.csr")
        (self.directory / "extensions").write_text(f"{extensions}\n")
        ca = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
        self._openssl("x509", "-req", "-in", f"{name}.csr", *ca, "-days", "2", "-out", f"{name}.crt")

    def context(self, *, demands: bool) -> ssl.SSLContext:
        """A server's, which may demand certificates of clients'."""
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(self.certificate, self.key)
        if demands:
            made.load_verify_locations(self.ca)
            made.verify_mode = ssl.CERT_REQUIRED
        return made

    def signature(self, data: bytes) -> bytes:
        """By the server's key (RS256)."""
        command = ["openssl", "dgst", "-sha256", "-sign", str(self.key)]
        return subprocess.run(command, input=data, capture_output=True, check=True, timeout=SECONDS).stdout

    def _new(self, name: str) -> tuple[str, ...]:
        return ("-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-subj", f"/CN=test {name}")

    def _openssl(self, *args: str) -> None:
        subprocess.run(["openssl", *args], cwd=self.directory, capture_output=True, check=True, timeout=SECONDS)


@contextmanager
def registry(
    directory: Path, certificates: Certificates | None = None, auth: Mapping[str, object] | None = None
) -> Iterator[str]:
    """Debian's registry, perhaps with TLS and who may use it; its host and port. It lives as long as the block."""
    program = needs("docker-registry", "docker-registry")
    http: dict[str, object] = {"addr": "127.0.0.1:0", "secret": "for tests"}
    if certificates is not None:
        http["tls"] = {"certificate": str(certificates.certificate), "key": str(certificates.key)}
    config = {
        "version": "0.1",
        "log": {"level": "info", "formatter": "json"},
        "storage": {"filesystem": {"rootdirectory": str(directory / "data")}, "delete": {"enabled": True}},
        "http": http,
        **({"auth": auth} if auth is not None else {}),
    }
    (directory / "registry.yml").write_text(json.dumps(config))  # YAML holds all of JSON
    log = directory / "registry.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "serve", str(directory / "registry.yml")], stdout=output, stderr=subprocess.STDOUT, env={}
        )
        try:
            yield f"127.0.0.1:{_port(process, log)}"
        finally:
            process.kill()
            process.wait()


def _port(process: subprocess.Popen[bytes], log: Path) -> str:
    """What it listens on, when it does."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        found = re.search(r"listening on 127\.0\.0\.1:([0-9]+)", log.read_text())
        if found:
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError(f"never listened: {log.read_text()}")


@frozen
class Asked:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Exchange(BaseHTTPRequestHandler):
    """One request, and ways to answer it."""

    protocol_version = "HTTP/1.1"
    server: _HTTPServer
    asked: Asked

    def answer(self, status: int = 200, body: bytes = b"", **headers: object) -> None:
        """Properly; ``Some_Header`` is Some-Header, and those that are ``None`` are left out."""
        self.send_response(status)
        for name, value in {"Content_Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        """No more on this connection."""
        self.wfile.flush()
        self.close_connection = True

    def any_method(self) -> None:
        size = self.headers.get("Content-Length")
        body = self._chunks() if self.headers.get("Transfer-Encoding") else self.rfile.read(int(size or 0))
        self.asked = Asked(self.command, self.path, {name.title(): value for name, value in self.headers.items()}, body)
        self.server.requests.append(self.asked)
        self.server.answer(self)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_CONNECT = any_method

    def _chunks(self) -> bytes:
        found = b""
        while size := int(self.rfile.readline(), 16):
            found += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return found

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


class _HTTPServer(ThreadingHTTPServer):
    block_on_close = False

    def __init__(self, answer: Callable[[Exchange], None], requests: list[Asked]) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.answer = answer
        self.requests = requests
        self._threads_of_clients: list[threading.Thread] = []

    def process_request(self, request: object, client_address: object) -> None:
        arguments = (request, client_address)
        thread = threading.Thread(target=self.process_request_thread, args=arguments, daemon=True)
        self._threads_of_clients.append(thread)
        thread.start()

    def join_clients(self) -> None:
        """Each has closed its connections by now, whatever became of its requests."""
        for thread in self._threads_of_clients:
            thread.join(SECONDS)
            assert not thread.is_alive(), "a connection is still open"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients go away as they like."""


@define
class Server:
    """An HTTP server that answers as a test wants it to."""

    host: str
    scheme: str
    requests: list[Asked]
    ended: threading.Event = Factory(threading.Event)
    """Set when the test is over: for answers that would never end."""

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def asked(self, method: str = "GET") -> list[str]:
        """The paths so far."""
        return [request.path for request in self.requests if request.method == method]


@contextmanager
def serving(
    answer: Callable[[Exchange], None], certificates: Certificates | None = None, *, demands: bool = False
) -> Iterator[Server]:
    """A server that lives as long as the block; it may demand a certificate of its clients'."""
    requests: list[Asked] = []
    made = _HTTPServer(answer, requests)
    if certificates is not None:
        context = certificates.context(demands=demands)
        made.socket = context.wrap_socket(made.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    server = Server(f"127.0.0.1:{made.server_port}", "https" if certificates else "http", requests)
    try:
        yield server
    finally:
        server.ended.set()
        made.shutdown()
        thread.join()
        made.server_close()
        made.join_clients()


@define
class TokenServer:
    """Gives the registry's tokens to whoever shows USER's password, or to anybody (distribution, spec/auth/token)."""

    certificates: Certificates
    anonymous: bool = False
    life: int = 300
    granted: list[tuple[str, ...]] = Factory(list)
    """The scopes of every token so far."""

    def __call__(self, exchange: Exchange) -> None:
        expected = f"Basic {base64.b64encode(f'{USER}:{PASSWORD}'.encode()).decode()}"
        if exchange.asked.method == "POST":
            fields = parse_qs(exchange.asked.body.decode())
            is_known = fields["refresh_token"] == ["an identity token"] and fields["grant_type"] == ["refresh_token"]
            scopes = tuple(fields["scope"][0].split())
        else:
            fields = parse_qs(urlsplit(exchange.path).query)
            is_known = self.anonymous or exchange.headers.get("Authorization") == expected
            scopes = tuple(fields.get("scope", []))
        if not is_known:
            exchange.answer(401, b'{"details": "incorrect username or password"}')
            return
        self.granted.append(scopes)
        token = self._token(fields["service"][0], scopes)
        exchange.answer(200, json.dumps({"access_token": token, "expires_in": self.life}).encode())

    def _token(self, service: str, scopes: tuple[str, ...]) -> str:
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        times = {"iat": now, "nbf": now - 60, "exp": now + self.life}
        claims = {"iss": "test", "sub": USER, "aud": service, "jti": "1", **times, "access": access}
        chain = "".join(self.certificates.certificate.read_text().split("-----")[2].split())
        head = {"typ": "JWT", "alg": "RS256", "x5c": [chain]}
        signed = b".".join(_base64(json.dumps(part).encode()) for part in (head, claims))
        return (signed + b"." + _base64(self.certificates.signature(signed))).decode()


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
