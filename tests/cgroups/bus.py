"""A D-Bus daemon with a systemd behind it that does as it is told: for answers that the real one seldom gives."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from attrs import Factory, define
from jeepney import HeaderFields, Message, MessageType, Parser, new_error, new_method_return, new_signal

from ocirt.cgroups.dbus import MANAGER

Answer = Callable[["Call"], Sequence[Message]]


@define
class Call:
    """What was asked; and how to answer it."""

    message: Message
    method: str
    arguments: tuple[object, ...]

    def returns(self, signature: str = "", *values: object) -> Message:
        return new_method_return(self.message, signature or None, values)

    def fails(self, name: str, words: str) -> Message:
        return new_error(self.message, name, "s", (words,))


def job_removed(path: str, result: str) -> Message:
    return new_signal(MANAGER, "JobRemoved", "uoss", (1, path, "x.scope", result))


def started(call: Call, result: str = "done", *, early: bool = False) -> list[Message]:
    """A job, whose end is told after or before it is named; another's ends as well."""
    path = "/org/freedesktop/systemd1/job/7"
    messages = [job_removed("/org/freedesktop/systemd1/job/6", "failed"), call.returns("o", path)]
    messages.insert(1 if early else 2, job_removed(path, result))
    return messages


@define
class Bus:
    """Listens at ``path`` until it is closed; ``calls`` are those to systemd, in order."""

    path: Path
    answers: Mapping[str, Answer]
    greeting: bytes = b"OK 0123456789abcdef\r\n"
    calls: list[tuple[str, tuple[object, ...]]] = Factory(list)

    def serve(self) -> Iterator[Bus]:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.path))
            listener.listen()
            thread = threading.Thread(target=self._accept, args=(listener,))
            thread.start()
            try:
                yield self
            finally:
                listener.shutdown(socket.SHUT_RDWR)
                thread.join()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        lines = connection.makefile("rb", buffering=0)
        assert lines.readline() == b"\0AUTH EXTERNAL\r\n"
        connection.sendall(b"DATA\r\n")
        assert lines.readline() == b"DATA\r\n"
        connection.sendall(self.greeting)
        if lines.readline() != b"BEGIN\r\n":
            return
        parser = Parser()
        while data := connection.recv(4096):
            parser.add_data(data)
            while (message := parser.get_next_message()) is not None:
                for serial, answer in enumerate(self._answers(message), 1):
                    connection.sendall(answer.serialise(serial=serial))

    def _answers(self, message: Message) -> Sequence[Message]:
        assert message.header.message_type is MessageType.method_call
        call = Call(message, message.header.fields[HeaderFields.member], tuple(message.body))
        if call.method == "Hello":
            return [call.returns("s", ":1.1")]
        if call.method == "AddMatch":
            return [call.returns()]
        self.calls.append((call.method, call.arguments))
        if call.method not in self.answers:
            return [call.returns()]
        return self.answers[call.method](call)
