"""A conversation with systemd over D-Bus, message by message, with an end in sight.

jeepney makes and reads the messages (and is imported here alone, since few callers need it); waiting is done here,
because one deadline holds for all of a conversation, and what jobs report may come before the answer that names them.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from jeepney import DBusAddress, HeaderFields, MatchRule, Message, MessageType, Parser, message_bus, new_method_call
from jeepney.bus import get_connectable_addresses

from ocirt.errors import OCIError, SetupError, UnsupportedError

if TYPE_CHECKING:
    from ocirt.cgroups.properties import Property
    from ocirt.cgroups.units import Bus

ORIGIN: Final = "linux.cgroupsPath"

SECONDS: Final = 30.0
"""How long systemd may take over one unit: runc's number."""

SYSTEM_BUS: Final = "unix:path=/run/dbus/system_bus_socket"
NAME: Final = "org.freedesktop.systemd1"
MANAGER: Final = DBusAddress("/org/freedesktop/systemd1", bus_name=NAME, interface=f"{NAME}.Manager")
PROPERTIES: Final = MANAGER.with_interface("org.freedesktop.DBus.Properties")

NO_SUCH_UNIT: Final = f"{NAME}.NoSuchUnit"
UNIT_EXISTS: Final = f"{NAME}.UnitExists"

BACK_OFF: Final = tuple(0.01 * 2**attempt for attempt in range(7))
"""Between attempts to connect, where the bus has too many at its door."""


class Refused(OCIError):
    """An answer that is an error; whoever asked says what it means."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(name, message)
        self.name = name
        self.message = message

    def __str__(self) -> str:
        return self.message or self.name


class Systemd:
    """A connection to the machine's systemd or to the calling user's; a context manager that closes it.

    :raises UnsupportedError: this user has no bus.
    :raises SetupError: it cannot be reached, or takes too long.
    """

    def __init__(self, bus: Bus) -> None:
        self._deadline = time.monotonic() + SECONDS
        self._parser = Parser()
        self._serial = 0
        self._jobs: dict[str, str] = {}
        """How jobs ended, by their paths; of those too that we have yet to hear the paths of."""
        self._address = address(bus)
        self._socket = self._connected()
        try:
            self._authenticate()
            self._call(message_bus.Hello())
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def property(self, name: str) -> object:
        """One of the manager's."""
        reply = self._call(new_method_call(PROPERTIES, "Get", "ss", (MANAGER.interface, name)))
        (variant,) = reply
        assert isinstance(variant, tuple)  # jeepney's form of a variant
        return variant[1]

    def follow_jobs(self) -> None:
        """Hear of jobs' ends from now on, which must be before there is one to wait for."""
        rule = MatchRule(
            type="signal", sender=NAME, interface=MANAGER.interface, member="JobRemoved", path=MANAGER.object_path
        )
        self._call(message_bus.AddMatch(rule))
        self.call("Subscribe")

    def call(self, method: str, signature: str = "", *arguments: object) -> tuple[object, ...]:
        """:raises Refused: systemd's answer is an error."""
        return self._call(new_method_call(MANAGER, method, signature or None, arguments))

    def start(self, unit: str, properties: Sequence[Property]) -> str:
        """StartTransientUnit, and how that ended: ``done``, or something else."""
        listed = [(made.name, (made.signature, made.value)) for made in properties]
        return self._job("StartTransientUnit", "ssa(sv)a(sa(sv))", unit, "replace", listed, [])

    def stop(self, unit: str) -> str:
        """StopUnit, and how that ended."""
        return self._job("StopUnit", "ss", unit, "replace")

    def set(self, unit: str, properties: Sequence[Property]) -> None:
        """Change a unit until the next boot at most."""
        listed = [(made.name, (made.signature, made.value)) for made in properties]
        self.call("SetUnitProperties", "sba(sv)", unit, True, listed)

    def _job(self, method: str, signature: str, *arguments: object) -> str:
        (path,) = self.call(method, signature, *arguments)
        while path not in self._jobs:
            self._note(self._receive())
        return self._jobs.pop(str(path))

    def _call(self, message: Message) -> tuple[object, ...]:
        self._serial += 1
        self._send(message.serialise(serial=self._serial))
        while True:
            answer = self._receive()
            if answer.header.fields.get(HeaderFields.reply_serial) != self._serial:
                self._note(answer)
                continue
            if answer.header.message_type is MessageType.error:
                words = answer.body[0] if answer.body and isinstance(answer.body[0], str) else ""
                raise Refused(answer.header.fields.get(HeaderFields.error_name, ""), words)
            return tuple(answer.body)

    def _note(self, message: Message) -> None:
        if message.header.fields.get(HeaderFields.member) == "JobRemoved" and len(message.body) == 4:
            _, path, _, result = message.body
            self._jobs[path] = result

    def _connected(self) -> socket.socket:
        for pause in (*BACK_OFF, 0.0):
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.settimeout(self._left())
                connection.connect(self._address)
            except OSError as error:
                connection.close()
                if error.errno != errno.EAGAIN or not pause:
                    raise self._failed("connect", error) from error
                time.sleep(pause)
            else:
                return connection
        raise AssertionError("the last attempt succeeds or raises")

    def _authenticate(self) -> None:
        """EXTERNAL without a name: we are whom the kernel says we are, seen from where the bus lives.

        In a user namespace we could tell but our number in there, which is somebody else's out there.
        """
        self._send(b"\0AUTH EXTERNAL\r\n")
        self._line(b"DATA")
        self._send(b"DATA\r\n")
        self._line(b"OK")
        self._send(b"BEGIN\r\n")

    def _line(self, expected: bytes) -> None:
        line = b""
        while not line.endswith(b"\r\n") and len(line) < 1000:
            line += self._read(1)  # what follows is not ours to read yet
        if not line.startswith(expected):
            words = f"the bus at {self._address} does not let us in: {line.decode('ascii', 'replace').strip()}"
            raise SetupError(ORIGIN, "Systemd", "", errno.EACCES, words)

    def _receive(self) -> Message:
        while (message := self._parser.get_next_message()) is None:
            self._parser.add_data(self._read(4096))
        return message

    def _read(self, size: int) -> bytes:
        with self._timed("recv"):
            data = self._socket.recv(size)
            if not data:
                raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
            return data

    def _send(self, data: bytes) -> None:
        with self._timed("send"):
            self._socket.sendall(data)

    @contextlib.contextmanager
    def _timed(self, call: str) -> Iterator[None]:
        try:
            self._socket.settimeout(self._left())
            yield
        except OSError as error:
            raise self._failed(call, error) from error

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
        return left

    def _failed(self, call: str, error: OSError) -> SetupError:
        number = errno.ETIMEDOUT if isinstance(error, TimeoutError) else error.errno or errno.EIO
        return SetupError(ORIGIN, "Systemd", call, number, self._address, "is its D-Bus daemon running?")


def address(bus: Bus) -> str:
    """A socket's path, or behind a NUL its abstract name.

    :raises UnsupportedError: nothing says where this user's is.
    """
    if bus == "system":
        listed = os.environ.get("DBUS_SYSTEM_BUS_ADDRESS") or SYSTEM_BUS
    else:
        listed = os.environ.get("DBUS_SESSION_BUS_ADDRESS") or ""
        runtime = os.environ.get("XDG_RUNTIME_DIR")
        if not listed and runtime:
            return f"{runtime}/bus"
    if not listed:
        raise UnsupportedError(
            ORIGIN,
            "this user has no systemd to ask: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set "
            "(log in, or have one started at boot: loginctl enable-linger)",
        )
    try:
        return str(next(get_connectable_addresses(listed)))
    except (RuntimeError, ValueError) as error:
        raise UnsupportedError(ORIGIN, f"no bus of this machine is at {listed!r}") from error
