"""An image as ``ocirt.run`` has it: its program as docker would run it, on layers that nothing is written to."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from attrs import frozen

from ocirt.errors import ImageError
from ocirt.image import overlay
from ocirt.image.conversion import to_spec
from ocirt.image.store import Pull, Store, StoredImage
from ocirt.image.transport import Access
from ocirt.spec import Mount, Process, Spec, User
from ocirt.surroundings import Surroundings

RESOLVER: Final = "/etc/resolv.conf"


@frozen
class OnLayers:
    """What to run, and on what."""

    document: Spec
    trees: tuple[str, ...]
    """The top one first."""


@contextmanager
def on_layers(
    name: str,
    args: Sequence[str],
    user: User | None,
    surroundings: Surroundings,
    *,
    pull: Pull,
    store: Store,
    access: Access | None = None,
) -> Iterator[OnLayers]:
    """Have the image here, and nobody remove its layers until this is left.

    :param args: instead of the image's Cmd; its Entrypoint stays before them.
    :param user: instead of the image's.
    """
    stored, held = store.use(name, policy=pull, access=access)
    with held:
        said = stored.config.config
        program = (*said.entrypoint, *(args or said.cmd))
        if not program:
            raise ImageError(stored.name, "names no program to run: say which")
        with overlay.merged(held.trees) as root:
            document = _document(stored, root, program, user, surroundings)
        yield OnLayers(document.evolve(mounts=(*document.mounts, *_network(surroundings))), held.trees)


def _document(
    stored: StoredImage, root: int, program: tuple[str, ...], user: User | None, surroundings: Surroundings
) -> Spec:
    """An ordinary caller has one ID for the program: so first it has to be known whom the image wants."""
    wanted = user
    if wanted is None:
        wanted = _process(_converted(stored, root, program, User(0, 0), surroundings)).user
        if surroundings.mapped is not None:
            wanted = wanted.evolve(additional_gids=())
    document = _converted(stored, root, program, wanted, surroundings)
    return document.evolve(process=_process(document).evolve(args=program, user=wanted))


def _converted(
    stored: StoredImage, root: int, program: tuple[str, ...], user: User, surroundings: Surroundings
) -> Spec:
    base = surroundings.document(user)
    base = base.evolve(process=_process(base).evolve(args=program))
    return to_spec(stored.config, root, volumes="ignore", base=base)


def _process(document: Spec) -> Process:
    assert document.process is not None  # Surroundings made one
    return document.process


def _network(surroundings: Surroundings) -> Iterator[Mount]:
    """With the host's network, the names that it knows: no image has them."""
    if surroundings.network == "host" and os.path.exists(RESOLVER):
        yield Mount(RESOLVER, None, RESOLVER, ("bind", "ro", "nosuid", "nodev", "noexec"))
