"""What answers at docker's socket need not be docker; with docker itself is tests/engines/test_docker_images.py."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from ocirt import image
from ocirt.errors import OCIError
from ocirt.image.transport import Access
from tests.image import support
from tests.support import open_files

HEAD = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def answering(path: Path, answer: bytes) -> Iterator[Access]:
    """Whoever connects is given the answer, whatever they say."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):  # who has heard enough hangs up
                    if not connection.recv(1 << 16):
                        return
                    connection.sendall(answer)

        server = threading.Thread(target=serve)
        server.start()
        try:
            yield Access(daemon=str(path))
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
                last.shutdown(socket.SHUT_WR)
                server.join()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        HEAD,
        HEAD + b"Content-Length: 0\r\n\r\n",
        HEAD + b"Content-Length: 100\r\n\r\nx",
        HEAD + b"Content-Length: -1\r\n\r\nx",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nab",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"\r\n" + b"x" * 100_000,
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 No\r\n\r\n" + b"x" * (2 << 20),
        HEAD + b"X: " + b"y" * 100_000,
        b"HTTP/1.1 101 Switching\r\n\r\n" * 200,
    ],
)
def test_a_bad_answer_is_one_of_our_errors(tmp_path: Path, answer: bytes) -> None:
    before = open_files()
    with answering(tmp_path / "s", answer) as access:
        with pytest.raises(OCIError):
            image.copy("docker-daemon:a:1", f"oci:{tmp_path}/m:v1", access=access)
        support.make_layout(tmp_path / "l")
        if b" 200 OK" not in answer or len(answer) < len(HEAD) + 3:
            with pytest.raises(OCIError):
                image.copy(f"oci:{tmp_path}/l", "docker-daemon:a:1", dst_access=access)
    assert open_files() == before
