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
from ocirt.spec import Mount, Spec, User
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
    name: str, args: Sequence[str], user: User | None, surroundings: Surroundings, *, pull: Pull, store: Store
) -> Iterator[OnLayers]:
    """Have the image here, and nobody remove its layers until this is left.

    :param args: instead of the image's Cmd; its Entrypoint stays before them.
    :param user: instead of the image's.
    """
    stored, held = store.use(name, policy=pull)
    with held:
        with overlay.merged(held.trees) as root:
            document = _document(stored, root, user, surroundings)
        said = stored.config.config
        program = (*said.entrypoint, *(args or said.cmd))
        if not program:
            raise ImageError(stored.name, "names no program to run: say which")
        assert document.process is not None  # Surroundings made one
        process = document.process.evolve(args=program)
        yield OnLayers(document.evolve(process=process, mounts=(*document.mounts, *_network(surroundings))), held.trees)


def _document(stored: StoredImage, root: int, user: User | None, surroundings: Surroundings) -> Spec:
    """An ordinary caller has one ID for the program: so first it has to be known whom the image wants."""
    wanted = user
    if wanted is None:
        asked = to_spec(stored.config, root, volumes="ignore", base=surroundings.document(User(0, 0))).process
        assert asked is not None
        wanted = asked.user if surroundings.mapped is None else asked.user.evolve(additional_gids=())
    document = to_spec(stored.config, root, volumes="ignore", base=surroundings.document(wanted))
    assert document.process is not None
    return document.evolve(process=document.process.evolve(user=wanted))


def _network(surroundings: Surroundings) -> Iterator[Mount]:
    """With the host's network, the names that it knows: no image has them."""
    if surroundings.network == "host" and os.path.exists(RESOLVER):
        yield Mount(RESOLVER, None, RESOLVER, ("bind", "ro", "nosuid", "nodev", "noexec"))
