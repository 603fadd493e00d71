"""What a file has besides its data: owner, extended attributes, mode and times, in the order that keeps them all.

chown(2) takes set-ID bits and capabilities away, so it comes first; a closed mode would keep ordinary users from their
own attributes, so it comes after these; and everything before changes times.
"""

from __future__ import annotations

import errno
import os
from collections import Counter

from ocirt.archive.headers import Member
from ocirt.archive.ownership import ROOTLESS_XATTR, Ownership

UNTOUCHED = frozenset({"security.selinux", "system.nfs4_acl"})
"""The machine's own, which an archive can neither set nor clear (umoci)."""

OVERLAY = ("trusted.overlay.", "user.overlay.")
"""What overlayfs itself makes of a directory: an archive may not say it."""

REMEMBERED = 1000
"""Owners, and names of attributes: more than any honest archive has."""


class Dresser:
    """Gives what an archive says of them to files that were just made."""

    def __init__(self, ownership: Ownership, *, tolerant: bool) -> None:
        self._ownership = ownership
        self._tolerant = tolerant
        self._ids: dict[tuple[int, int], tuple[int, int]] = {}
        self.skipped: Counter[str] = Counter()
        """Attributes that could not be had here, with their numbers of files."""

    def owner(self, member: Member) -> tuple[int, int] | None:
        """Who owns the file here; ``None`` where it is the caller's already.

        :raises ArchiveError: an ID is not mapped.
        """
        if self._ownership.rootless:
            return None
        wanted = (member.uid, member.gid)
        found = self._ids.get(wanted)
        if found is None:
            if len(self._ids) > REMEMBERED:
                self._ids.clear()
            found = self._ids[wanted] = self._ownership.host_ids(*wanted, member.name)
        return found

    def dress(self, fd: int, member: Member, mode: int) -> None:
        """An open file or directory, but for its times."""
        owner = self.owner(member)
        if owner is not None:
            os.fchown(fd, *owner)
        self._clear_xattrs(fd)
        self._set_xattrs(fd, member, follow=True)
        os.fchmod(fd, mode)

    def dress_symlink(self, parent: int, name: str, member: Member) -> None:
        """A symlink, which has no mode of its own."""
        self._set_xattrs(f"/proc/self/fd/{parent}/{name}", member, follow=False)
        self.dress_link(parent, name, member)

    def dress_link(self, parent: int, name: str, member: Member) -> None:
        """A symlink that stands for the member, which is a directory: it cannot have its attributes."""
        owner = self.owner(member)
        if owner is not None:
            os.chown(name, *owner, dir_fd=parent, follow_symlinks=False)
        os.utime(name, ns=(member.atime, member.mtime), dir_fd=parent, follow_symlinks=False)

    def dress_node(self, parent: int, name: str, member: Member) -> None:
        """A device or FIFO, which is not to be opened: that could have effects. chmod(2) by its descriptor alone."""
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        try:
            path = f"/proc/self/fd/{fd}"
            owner = self.owner(member)
            if owner is not None:
                os.chown(path, *owner)
            self._clear_xattrs(path)
            self._set_xattrs(path, member, follow=True)
            os.chmod(path, member.mode)
            os.utime(path, ns=(member.atime, member.mtime))
        finally:
            os.close(fd)

    def _clear_xattrs(self, target: int | str) -> None:
        """What a file was born with, by its directory's default ACL for one, is not in the archive."""
        try:
            present = os.listxattr(target)
        except OSError as error:
            if error.errno != errno.ENOTSUP:
                raise
            return
        for name in present:
            if name not in UNTOUCHED and not name.startswith(OVERLAY):
                try:
                    os.removexattr(target, name)
                except OSError as error:
                    self._tolerate(name, error)

    def _set_xattrs(self, target: int | str, member: Member, *, follow: bool) -> None:
        kept = self._ownership.kept(member.uid, member.gid)
        if not member.xattrs and kept is None:
            return
        values = dict(member.xattrs)
        if self._ownership.rootless:
            values.pop(ROOTLESS_XATTR, None)
        if kept is not None:
            values[ROOTLESS_XATTR] = kept
        for name, value in values.items():
            if name in UNTOUCHED or name.startswith(OVERLAY):
                self._skip(name)
                continue
            try:
                os.setxattr(target, name, value, follow_symlinks=follow)
            except OSError as error:
                self._tolerate(name, error)

    def _tolerate(self, name: str, error: OSError) -> None:
        """Some file systems have no attributes, and an ordinary user may not set all of them (umoci)."""
        if error.errno != errno.ENOTSUP and not (self._tolerant and error.errno in (errno.EPERM, errno.EACCES)):
            error.filename = name
            raise error
        self._skip(name)

    def _skip(self, name: str) -> None:
        """Counted, but an archive may invent as many names as it likes."""
        self.skipped[name if name in self.skipped or len(self.skipped) < REMEMBERED else "..."] += 1
