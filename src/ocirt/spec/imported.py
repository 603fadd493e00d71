"""A configuration that was made of somebody else's, and what of theirs it does not say, or says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from attrs import field, frozen

from ocirt.spec.accounts import Accounts
from ocirt.spec.config import Spec
from ocirt.spec.linux import Device

LEFT_OUT: Final = "left out"

ACTED_ON: Final = ("run.oci.", "org.criu.", "org.systemd.property.")
"""Annotations by which a runtime does something: keep the caller's groups, read a file of the host, set a unit's
properties. An image's author and a container's labels have no say in that."""


class Note(NamedTuple):
    """One member of a document that could not be carried over as it is."""

    path: str
    """Where it stands in that document: ``HostConfig.Links[0]``."""
    value: object
    """What stands there; ``None`` where it is the absence that counts."""
    became: str
    """``left out``, or what stands for it now."""
    why: str

    def __str__(self) -> str:
        said = "" if self.value is None else f" {_shown(self.value)}"
        return f"{self.path}:{said} is {self.became}: {self.why}"


@frozen
class Imported:
    """The configuration and the report: what is in neither was carried over as it was."""

    spec: Spec
    notes: tuple[Note, ...] = field(default=(), converter=tuple[Note, ...])


@frozen
class Machine:
    """What no document tells: of the machine where the container is to run, and of a root filesystem there.

    ``ocirt.lookup.here()`` asks this one. Whatever needs what is not known becomes a note.
    """

    architecture: str = ""
    """As uname(2) names it."""
    devices: Callable[[str], tuple[Device, ...]] | None = None
    """The device nodes at a path, or in all of a directory."""
    accounts: Callable[[str], Accounts] | None = None
    """The users of the root filesystem at a path."""


def safe_annotations(labels: dict[str, str], at: str) -> tuple[dict[str, str], list[Note]]:
    """Labels as annotations, without those that a runtime acts on (conversion.md, Annotations)."""
    notes = [
        Note(f"{at}[{name!r}]", value, LEFT_OUT, "a runtime would act on such an annotation, and this is a label")
        for name, value in labels.items()
        if name.startswith(ACTED_ON)
    ]
    return {name: value for name, value in labels.items() if not name.startswith(ACTED_ON)}, notes


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
