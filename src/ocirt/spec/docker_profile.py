"""A seccomp profile in Docker's form, which is OCI's with conditions (moby, profiles/seccomp).

A rule may be for some architectures, capabilities or kernels alone. What architecture it is the machine says; the
kernel is at least the oldest that ocirt runs on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from ocirt.spec.config import Capabilities
from ocirt.spec.docker_json import Part
from ocirt.spec.imported import Machine
from ocirt.spec.seccomp import Seccomp, Syscall, SyscallArg

KERNEL: Final = (5, 12)
"""README, Requirements: with an older one there are no containers at all."""

ARCHITECTURES: Final[Mapping[str, tuple[str, str]]] = {
    "x86_64": ("amd64", "SCMP_ARCH_X86_64"),
    "i686": ("x86", "SCMP_ARCH_X86"),
    "aarch64": ("arm64", "SCMP_ARCH_AARCH64"),
    "armv7l": ("arm", "SCMP_ARCH_ARM"),
    "loongarch64": ("loongarch64", "SCMP_ARCH_LOONGARCH64"),
    "mips64": ("mips64", "SCMP_ARCH_MIPS64"),
    "ppc64le": ("ppc64le", "SCMP_ARCH_PPC64LE"),
    "riscv64": ("riscv64", "SCMP_ARCH_RISCV64"),
    "s390x": ("s390x", "SCMP_ARCH_S390X"),
}
"""uname's names, libseccomp's and the constants'."""


def profile(document: Part, capabilities: Capabilities | None, machine: Machine) -> Seccomp:
    own, constant = ARCHITECTURES.get(machine.architecture, ("", ""))
    granted = frozenset(capabilities.bounding if capabilities is not None else ())
    rules = [rule for part in document.parts("syscalls") if _applies(part, own, granted) for rule in _rule(part)]
    return Seccomp(
        default_action=document.text("defaultAction"),
        default_errno_ret=document.integer("defaultErrnoRet") if "defaultErrnoRet" in document else None,
        architectures=(*document.texts("architectures"), *_architectures(document, constant)),
        flags=document.texts("flags") if "flags" in document else None,
        listener_path=document.text("listenerPath") or None,
        listener_metadata=document.text("listenerMetadata") or None,
        syscalls=tuple(rules),
    )


def _architectures(document: Part, constant: str) -> Iterator[str]:
    """The machine's and what else runs on it."""
    for part in document.parts("archMap"):
        name, below = part.text("architecture"), part.texts("subArchitectures")
        if name == constant:
            yield from (name, *below)
        elif not constant:
            part.found.note(part.path, name, "say Machine(architecture=…), or ocirt.lookup.here()")


def _applies(part: Part, own: str, granted: frozenset[str]) -> bool:
    """Every condition for it holds, and none against it."""
    includes, excludes = part.part("includes"), part.part("excludes")
    wanted, unwanted = includes.texts("arches"), excludes.texts("arches")
    if (wanted or unwanted) and not own:
        part.found.note(part.path, list(wanted or unwanted), "say Machine(architecture=…), or ocirt.lookup.here()")
        return False
    if (wanted and own not in wanted) or own in unwanted:
        return False
    if any(name not in granted for name in includes.texts("caps")) or granted.intersection(excludes.texts("caps")):
        return False
    least, most = includes.text("minKernel"), excludes.text("minKernel")
    if least and not _is_reached(includes, least):
        part.found.note(includes.at("minKernel"), least, "whether the kernel is as new nobody can tell beforehand")
        return False
    return not (most and _is_reached(excludes, most))


def _is_reached(part: Part, version: str) -> bool:
    numbers = version.split(".")[:2]
    if len(numbers) != 2 or not all(number.isascii() and number.isdigit() for number in numbers):
        part.found.wrong(part.at("minKernel"), version, "must be a version such as 5.12")
        return True
    return (int(numbers[0]), int(numbers[1])) <= KERNEL


def _rule(part: Part) -> Iterator[Syscall]:
    part.known("comment")
    name = part.text("name")
    names = (*((name,) if name else ()), *part.texts("names"))
    if not names:
        part.found.wrong(part.path, None, "names no system call")
        return
    arguments = tuple(
        SyscallArg(
            max(0, argument.integer("index")),
            argument.integer("value") % 2**64,
            argument.integer("valueTwo") % 2**64,
            op=argument.text("op"),
        )
        for argument in part.parts("args")
    )
    errno = part.integer("errnoRet") if "errnoRet" in part else None
    yield Syscall(names, part.text("action"), errno, arguments)
