"""A Debian (or a derivative) of its own packages, as a bundle: by mmdebstrap or debootstrap, whichever there is.

Both want root, to make files of several owners and to mount procfs for the packages' scripts. Here they have it in
namespaces: of mounts and processes always, so that nothing of them is left however they end; and for an ordinary user
in a user namespace with his subordinate IDs (subuid(5)), where device nodes are the host's, bound for that time.
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections import deque
from collections.abc import Iterator, Sequence
from typing import IO, Final, Literal

from attrs import frozen

from ocirt import idmap
from ocirt.bundle import Bundle, appearing
from ocirt.errors import OCIError, UnsupportedError
from ocirt.host import TRUSTED_PATH, Host, trusted
from ocirt.spec import Capabilities, IDMapping, Linux, Spec
from ocirt.spec.docker_security import DEFAULT

Program = Literal["mmdebstrap", "debootstrap"]
PROGRAMS: Final[tuple[Program, ...]] = ("mmdebstrap", "debootstrap")
"""The first is faster, and checks more."""

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]*", re.ASCII)
MIRROR: Final = re.compile(r"[a-z+]+:[^\s]+|/[^\s]*", re.ASCII)

PROXIES: Final = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy")
SHOWN_LINES: Final = 30
"""Of what a program wrote, when it fails."""

DEVICES: Final = "null zero full random urandom tty"

SCRIPT: Final = f"""\
set -eu
umask 022
root=$1
shift
mkdir "$root"
if ! mknod -m 666 "$root/probe" c 1 3 2>/dev/null || ! : 2>/dev/null >"$root/probe"; then
    bound=yes
fi
rm -f "$root/probe"
if [ "${{bound-}}" ] && [ "$1" = debootstrap ]; then
    # As in a container, where it expects that devices are there already.
    export container=lxc
    mkdir "$root/dev"
    for name in {DEVICES}; do
        : >"$root/dev/$name"
        mount --bind "/dev/$name" "$root/dev/$name"
    done
fi
"$@"
for name in {DEVICES}; do
    mountpoint --quiet "$root/dev/$name" && umount "$root/dev/$name"
done
# Of the host, or as large as the system itself: a container gets its own, and apt-get update loads the lists again.
rm -rf "$root/var/lib/apt/lists/"* "$root/var/cache/apt/"*.bin "$root/var/cache/apt/archives/"*.deb
rm -rf "$root/dev/"*  # the same tree for everybody; a container has its own
rm -f "$root/etc/resolv.conf" "$root/etc/hostname" "$root/var/log/bootstrap.log"
if [ -d "$root/usr/sbin" ]; then
    printf '#!/bin/sh\\nexit 101\\n' >"$root/usr/sbin/policy-rc.d"
    chmod 755 "$root/usr/sbin/policy-rc.d"
fi
"""
"""invoke-rc.d(8): 101 forbids to start a service when its package is installed."""

MAPPED: Final = 'echo ready; read -r go && exec setpriv --reuid=0 --regid=0 --clear-groups --pdeathsig=KILL "$@"'
"""Waits for its IDs: by execve(2) after that it has all capabilities in its user namespace."""

ISOLATED: Final = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


def make(
    path: str | os.PathLike[str],
    suite: str,
    *,
    mirror: str | None,
    variant: str,
    include: Sequence[str],
    components: Sequence[str],
    keyring: str | os.PathLike[str] | None,
    program: Program | None,
    spec: Spec | None,
) -> Bundle:
    """See ``Bundle.from_debootstrap``."""
    command = _command(_program(program), suite, mirror, variant, include, components, keyring)
    owner = _Owner.here()
    with appearing(path) as place, _removed_on_failure(owner, rootfs := os.path.join(place, "rootfs")):
        _run(owner, ("sh", "-c", SCRIPT, "sh", rootfs, *(word.replace(ROOT, rootfs) for word in command)), command[0])
        Bundle.create(place, rootfs=rootfs, spec=spec if spec is not None else default_spec(owner))
    return Bundle.load(path)


ROOT: Final = "\0root"
"""Stands for the root filesystem's path in a command."""


@contextlib.contextmanager
def _removed_on_failure(owner: _Owner, tree: str) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if owner.uids:
            owner.remove(tree)
        raise


def _program(wanted: Program | None) -> str:
    names = PROGRAMS if wanted is None else (wanted,)
    found = next((name for name in names if trusted(name) is not None), None)
    if found is None:
        needs = f"needs {' or '.join(names)} (Debian: apt-get install {names[0]})"
        raise UnsupportedError("debootstrap", needs)
    return found


def _command(
    program: str,
    suite: str,
    mirror: str | None,
    variant: str,
    include: Sequence[str],
    components: Sequence[str],
    keyring: str | os.PathLike[str] | None,
) -> list[str]:
    """Of one program or the other, which have these options in common; none may look like another option."""
    for word in (suite, variant, *include, *components):
        if not NAME.fullmatch(word) and word != "-":
            raise ValueError(f"{word!r} is no name of a suite, variant, package or component")
    if mirror is not None and not MIRROR.fullmatch(mirror):
        raise ValueError(
            f"{mirror!r} is no mirror: expected an address that begins with http:, https: or file:, or a path"
        )
    options = [f"--variant={variant}"]
    if include:
        options.append(f"--include={','.join(include)}")
    if components:
        options.append(f"--components={','.join(components)}")
    if keyring is not None:
        options.append(f"--keyring={os.path.abspath(keyring)}")
    own = ["--mode=root", "--skip=check/empty"] if program == "mmdebstrap" else []
    return [program, *own, *options, suite, ROOT, *([mirror] if mirror is not None else [])]


def default_spec(owner: _Owner) -> Spec:
    """``ocirt spec``'s, with a root filesystem that can be written to and the rights that package managers need."""
    base = Spec.default(rootless=bool(owner.uids))
    process, linux = base.process, base.linux or Linux()
    assert process is not None
    granted = Capabilities(bounding=DEFAULT, effective=DEFAULT, permitted=DEFAULT)
    if owner.uids:
        linux = linux.evolve(uid_mappings=owner.uids, gid_mappings=owner.gids)
    return base.evolve(root=base.root.evolve(readonly=False), process=process.evolve(capabilities=granted), linux=linux)


@frozen
class _Owner:
    """Whose the files become: root's, or those of an ordinary user's IDs."""

    host: Host
    uids: tuple[IDMapping, ...] = ()
    gids: tuple[IDMapping, ...] = ()

    @classmethod
    def here(cls) -> _Owner:
        host = Host.probe()
        if host.privileged:
            return cls(host)
        uids, gids = host.subordinate_uids, host.subordinate_gids
        if not host.has_newuidmap or not uids or not gids:
            raise UnsupportedError(
                "debootstrap",
                "as an ordinary user it needs newuidmap (Debian: apt-get install uidmap) and subordinate IDs: "
                "usermod --add-subuids 100000-165535 --add-subgids 100000-165535 NAME",
            )
        return cls(host, tuple(_mapping(host.euid, uids)), tuple(_mapping(host.egid, gids)))

    @contextlib.contextmanager
    def started(self, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """A process that is root, of this machine or of a user namespace; it does not outlive this block, nor us."""
        first = ("unshare", "--user", "sh", "-c", MAPPED, "sh") if self.uids else ("setpriv", "--pdeathsig=KILL")
        with subprocess.Popen(
            (*first, *command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=_environment(),
            cwd="/",
        ) as process:
            try:
                if self.uids:
                    self._let_begin(process)
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                assert process.stdout is not None
                process.stdout.read()  # to its end, which comes when the last of its children is gone

    def _let_begin(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise UnsupportedError("debootstrap", "needs user namespaces, which this user may not create here")
        idmap.install(process.pid, Linux(uid_mappings=self.uids, gid_mappings=self.gids), self.host)
        process.stdin.write(b"go\n")
        process.stdin.flush()

    def remove(self, tree: str) -> None:
        """What belongs to subordinate IDs only root of such a namespace may remove."""
        with self.started(("rm", "-rf", "--one-file-system", tree)) as process:
            process.wait()


def _mapping(own: int, ranges: Sequence[range]) -> Iterator[IDMapping]:
    """Root is the user, and then come the subordinate IDs in their order."""
    yield IDMapping(0, own, 1)
    following = 1
    for ids in ranges:
        yield IDMapping(following, ids.start, len(ids))
        following += len(ids)


def _environment() -> dict[str, str]:
    kept = {name: os.environ[name] for name in (*PROXIES, *map(str.upper, PROXIES)) if name in os.environ}
    return {"PATH": TRUSTED_PATH, "LANG": "C.UTF-8", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", **kept}


def _run(owner: _Owner, command: Sequence[str], program: str) -> None:
    """:raises OCIError: it failed, with the last lines of what it wrote."""
    last: deque[bytes] = deque(maxlen=SHOWN_LINES)
    with owner.started((*ISOLATED, *command)) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        last.extend(_lines(process.stdout))
        returncode = process.wait()
    if returncode:
        shown = b"".join(last).decode("utf-8", "replace").strip()
        raise OCIError(f"{program} ended with status {returncode}:\n{shown}")


def _lines(stream: IO[bytes]) -> Iterator[bytes]:
    """However long a line is, no more than a part of it is kept."""
    while line := stream.readline(4096):
        yield line
