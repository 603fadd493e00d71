"""Where layers come from while they are unpacked: each verified as stored and as uncompressed, some fetched ahead.

A layer is read once, by threads of its own: what is stored is hashed and uncompressed, and hashed again, while the tree
is made of what came before. From a registry the next layers are fetched meanwhile, into files without names.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO, Final, Literal

from attrs import define, field, frozen

from ocirt.errors import UnsupportedError
from ocirt.image import compression, files
from ocirt.image.closing import Closing
from ocirt.image.digest import Digest, Readable, Verified
from ocirt.image.documents import Descriptor
from ocirt.image.threads import PIECE, Ahead, Cancelled, prepared, start
from ocirt.image.transport import Progress, Report, Source

AHEAD: Final = 2
"""So many layers are fetched while one is unpacked."""


@frozen
class Layer:
    """A layer of an image: as it is stored, and what it is uncompressed."""

    descriptor: Descriptor
    diff_id: Digest
    what: str
    """For people."""


class Supply(Closing):
    """The layers of ``source``, of which ``wanted`` are going to be asked for, in this order."""

    def __init__(self, source: Source, wanted: Sequence[Layer], *, remote: bool, report: Report | None = None) -> None:
        self._source = source
        self._report = report
        self._waiting = list(wanted) if remote else []
        self._fetches: dict[Digest, _Fetch] = {}
        self._given_up = threading.Event()

    @contextmanager
    def open(self, layer: Layer) -> Iterator[Readable]:
        """What the layer is uncompressed; whoever reads to the end has read what its digests say.

        :raises DigestMismatch: when it is read, if it is anything else.
        """
        self._waiting = [other for other in self._waiting if other.diff_id != layer.diff_id]
        fetch = self._fetches.pop(layer.diff_id, None)
        self._fetch_ahead()
        kind = compression.of(layer.descriptor.media_type)
        with (
            self._stored(layer) if fetch is None else fetch.result() as stored,
            Ahead(stored) as ahead,
            compression.uncompressed(ahead, kind, layer.diff_id, what=layer.what, threaded=True) as stream,
        ):
            yield _Told(stream, "unpack", layer.what, self._report, None)

    @contextmanager
    def _stored(self, layer: Layer) -> Iterator[Readable]:
        descriptor = layer.descriptor
        with self._source.blob(descriptor) as blob:
            told = _Told(_Stoppable(blob, self._given_up), "download", layer.what, self._report, descriptor.size)
            yield Verified(told, descriptor.digest, descriptor.size, layer.what)

    def _fetch_ahead(self) -> None:
        while self._waiting and len(self._fetches) < AHEAD:
            layer = self._waiting.pop(0)
            fetch = self._fetches[layer.diff_id] = _Fetch(self._given_up)
            fetch.thread = prepared(partial(self._fetch, fetch, layer), "fetch a layer")
            start(fetch.thread)

    def _fetch(self, fetch: _Fetch, layer: Layer) -> None:
        try:
            fetch.file = files.spool()
            with self._stored(layer) as stream:
                while data := stream.read(PIECE):
                    fetch.file.write(data)
        except BaseException as error:  # noqa: BLE001  # raised by whoever wants the layer
            fetch.error = error
        finally:
            fetch.finished.set()

    def close(self) -> None:
        """Give up what is still being fetched."""
        self._given_up.set()
        for fetch in self._fetches.values():
            fetch.close()
        self._fetches.clear()


@define(eq=False)
class _Fetch:
    """A layer that is fetched before it is wanted."""

    given_up: threading.Event
    """Nobody wants any more of it."""
    thread: threading.Thread | None = None
    file: BinaryIO | None = None
    error: BaseException | None = None
    finished: threading.Event = field(factory=threading.Event)
    """Waited for instead of the thread, which an interrupted join takes for ended (Python before 3.13)."""

    @contextmanager
    def result(self) -> Iterator[Readable]:
        """What was fetched and verified, once it is all there."""
        try:
            try:
                self.finished.wait()
            except BaseException:  # Ctrl-C: it is not waited for any longer
                self.given_up.set()
                raise
            if self.error is not None:
                raise self.error
            assert self.file is not None
            self.file.seek(0)
            yield self.file
        finally:
            self.close()

    def close(self) -> None:
        if self.thread is not None and self.thread.ident is not None:
            self.finished.wait()
            self.thread.join()
        if self.file is not None:
            self.file.close()


class _Stoppable:
    """A stream that ends with an error once the work is given up."""

    def __init__(self, stream: Readable, given_up: threading.Event) -> None:
        self._stream = stream
        self._given_up = given_up

    def read(self, size: int = -1, /) -> bytes:
        if self._given_up.is_set():
            raise Cancelled
        return self._stream.read(size)


class _Told:
    """A stream whose reader's progress is told."""

    def __init__(
        self,
        stream: Readable,
        action: Literal["download", "unpack"],
        what: str,
        report: Report | None,
        total: int | None,
    ) -> None:
        self._stream = stream
        self._action = action
        self._what = what
        self._report = report
        self._total = total
        self._done = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self._done += len(data)
        if self._report is not None:
            self._report(Progress(self._action, self._what, self._done, self._total))
        return data


def refuse_unknown(layers: Sequence[Layer], name: str) -> None:
    """:raises UnsupportedError: one is of a media type that is none of a layer's."""
    for layer in layers:
        if compression.of(layer.descriptor.media_type) is None:
            raise UnsupportedError(name, f"has a layer of the type {layer.descriptor.media_type!r}, which is not known")
