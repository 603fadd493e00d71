"""An archive becomes part of a tree.

What is made is made in an open directory, under a name that was free, and from then on used by its descriptor; so
nothing that an archive says leads anywhere else. The rules are umoci's, since its trees are what others expect: an
existing entry gives way unless both are directories; a directory keeps the times that the archive says, or that it had;
whiteouts remove what lower layers made and never what their own layer makes, whatever the order.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import Final, Literal, TypeAlias

from ocirt.archive.headers import Archive, Kind, Member
from ocirt.archive.limits import Budget, ExtractLimits
from ocirt.archive.metadata import Dresser
from ocirt.archive.overlay import DEVICE, Overlay, is_whiteout
from ocirt.archive.ownership import Ownership
from ocirt.archive.paths import DIRECTORY, SINGLE, Directory, Tree, clean, openat2
from ocirt.archive.remembered import Remembered
from ocirt.archive.removal import remove
from ocirt.archive.results import Extracted
from ocirt.archive.source import Stream
from ocirt.archive.whiteouts import PREFIX, hidden, is_in_one
from ocirt.errors import ArchiveError

__all__ = ["ExtractLimits", "Extracted", "Whiteouts", "extract"]

Whiteouts: TypeAlias = Literal["apply", "overlay", "refuse", "keep"]
"""What becomes of ``.wh.`` files: what they name is removed; overlayfs' own form of them; an error; files as any."""

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def extract(
    stream: Stream,
    root: int | str | os.PathLike[str],
    *,
    ownership: Ownership = Ownership(),  # noqa: B008  # frozen
    whiteouts: Whiteouts = "apply",
    keep_dirlinks: bool = False,
    userxattr: bool = False,
    needs_end: bool = True,
    limits: ExtractLimits = ExtractLimits(),  # noqa: B008  # frozen
) -> Extracted:
    """Extract a tar archive into the directory ``root``, a path or a descriptor, which nobody else changes meanwhile.

    ``stream`` is read to its end. ``keep_dirlinks`` leaves a symlink to a directory where the archive has a directory;
    ``userxattr`` makes overlayfs' attributes such as ordinary users can mount with the option of that name;
    ``needs_end=False`` takes archives that end without saying so, where a digest tells that nothing is missing.

    After an error the tree is unfinished: the caller removes it, by ``remove_tree``.

    :raises ArchiveError: the archive is wrong, or something of it cannot be made; ``__cause__`` tells what failed.
    """
    archive = Archive(stream, needs_end=needs_end)
    fd = openat2(root, ".", DIRECTORY, SINGLE) if isinstance(root, int) else os.open(root, DIRECTORY)
    try:
        extraction = _Extraction(fd, archive, ownership, whiteouts, keep_dirlinks, userxattr, limits)
    finally:
        os.close(fd)
    try:
        return extraction.run()
    finally:
        extraction.close()


class _Extraction:
    def __init__(
        self,
        root: int,
        archive: Archive,
        ownership: Ownership,
        whiteouts: Whiteouts,
        keep_dirlinks: bool,
        userxattr: bool,
        limits: ExtractLimits,
    ) -> None:
        careful = ownership.rootless or os.geteuid() != 0
        tolerant = careful or _in_user_namespace()
        self._budget = Budget(limits)
        self._tree = Tree(root, careful=careful)
        # In an empty tree there is nothing that a whiteout could remove, or spare.
        self._created = Remembered() if whiteouts == "apply" and _has_entries(root) else None
        self._archive = archive
        self._ownership = ownership
        self._dresser = Dresser(ownership, tolerant=tolerant)
        self._tolerant = tolerant
        self._mode = whiteouts
        self._keep_dirlinks = keep_dirlinks
        self._overlay = Overlay(self._tree, self._budget, userxattr=userxattr) if whiteouts == "overlay" else None
        self._name = ""
        self._entries = self._whiteouts = 0
        self._implied: list[str] = []
        self._placeholders: list[str] = []

    def run(self) -> Extracted:
        try:
            for member in self._archive:
                self._name = member.name
                self._entries += 1
                self._budget.take_entry(member.name)
                self._budget.take_bytes(self._archive.stored, member.name)
                self._place(member)
                self._tree.tidy()
            if self._overlay is not None:
                self._overlay.drop_idle()
            self._tree.close()
        except OSError as error:
            if error is self._archive.source.failure:
                raise
            raise ArchiveError(self._name, f"cannot be made: {self._reason(error)}") from error
        return Extracted(
            self._entries,
            self._budget.bytes,
            self._whiteouts,
            tuple(self._implied),
            tuple(self._placeholders),
            dict(self._dresser.skipped),
            self._overlay is not None and self._overlay.opaque_root,
        )

    def close(self) -> None:
        self._tree.abandon()

    def _reason(self, error: OSError) -> str:
        text = error.strerror or str(error)
        if error.filename and error.filename != self._name and len(str(error.filename)) < 256:
            text += f": {error.filename!r}"
        if isinstance(error, PermissionError) and os.geteuid() != 0 and not self._ownership.rootless:
            text += "; an ordinary user's files are the user's own: rootless=True keeps other owners aside"
        return text

    def _place(self, member: Member) -> None:
        if not member.name:
            raise ArchiveError("", "a member without a name")
        path = clean(member.name)
        head, _, name = path.rpartition("/")
        if self._mode != "keep" and PREFIX in path:
            if is_in_one(head):
                raise ArchiveError(member.name, "its directory has the name of a whiteout")
            if name.startswith(PREFIX):
                self._whiteout(member, head, name)
                return
        if not path:
            self._root(member)
            return
        directory = self._parent(head)
        match member.kind:
            case Kind.FILE:
                self._file(member, directory, name)
            case Kind.DIRECTORY:
                self._directory(member, directory, name, path)
            case Kind.SYMLINK:
                self._symlink(member, directory, name)
            case Kind.LINK:
                self._link(member, directory, name)
            case Kind.FIFO:
                self._node(member, directory, name, stat.S_IFIFO)
            case Kind.CHARACTER:
                self._node(member, directory, name, stat.S_IFCHR)
            case Kind.BLOCK:
                self._node(member, directory, name, stat.S_IFBLK)
        if self._created is not None:
            self._created.add(directory.key, name)

    def _root(self, member: Member) -> None:
        """The tree's own metadata. Would it become something else, all that follows would go there (CVE-2021-29136)."""
        if member.kind is not Kind.DIRECTORY:
            raise ArchiveError(member.name, f"the root cannot be a {member.kind.value}")
        self._dress_directory(self._tree.root, member)

    def _file(self, member: Member, directory: Directory, name: str) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=directory.fd)
        except FileExistsError:
            self._clear(directory, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=directory.fd)
        try:
            end = 0
            for offset, piece in self._archive.data():
                end = offset + len(piece)
                while (written := os.pwrite(fd, piece, offset)) != len(piece):
                    piece = piece[written:]
                    offset += written
            if end != member.size:
                os.ftruncate(fd, member.size)
            self._dresser.dress(fd, member, member.mode)
            os.utime(fd, ns=(member.atime, member.mtime))
        finally:
            os.close(fd)

    def _directory(self, member: Member, directory: Directory, name: str, path: str) -> None:
        replaced = False
        try:
            os.mkdir(name, 0o700, dir_fd=directory.fd)
        except FileExistsError:
            mode = os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode
            if not stat.S_ISDIR(mode):
                if self._keep_dirlinks and stat.S_ISLNK(mode) and self._tree.leads_to_a_directory(path):
                    self._dresser.dress_link(directory.fd, name, member)
                    return
                self._clear(directory, name)
                os.mkdir(name, 0o700, dir_fd=directory.fd)
                replaced = True
        made = self._tree.child(directory, name, path)
        self._dress_directory(made, member)
        if replaced and self._overlay is not None:
            self._overlay.make_opaque(made, path)

    def _dress_directory(self, directory: Directory, member: Member) -> None:
        """Times, and a mode that would keep us out, are for when we are done with it."""
        closed = self._tree.careful and member.mode & 0o700 != 0o700
        self._dresser.dress(directory.fd, member, member.mode | 0o700 if closed else member.mode)
        directory.mode = member.mode if closed else None
        directory.times = (member.atime, member.mtime)

    def _parent(self, path: str) -> Directory:
        """The directory that something is to be made in, made itself if need be."""
        try:
            return self._tree.directory(path, self._make_parent)
        except NotADirectoryError:
            if self._overlay is None or not self._uncover(path, self._overlay):
                raise
        return self._tree.directory(path, self._make_parent)

    def _uncover(self, path: str, overlay: Overlay) -> bool:
        """A directory in the place of a whiteout of this layer, on the way to something else of this layer."""
        at = ""
        for name in path.split("/"):
            above = self._tree.directory(at)
            at = f"{at}/{name}" if at else name
            if is_whiteout(os.stat(name, dir_fd=above.fd, follow_symlinks=False)):
                self._clear(above, name)
                overlay.make_opaque(self._make_parent(above, name, at), at)
                return True
        return False

    def _make_parent(self, parent: Directory, name: str, path: str) -> Directory:
        """A directory that the archive implies: root's, open to all, as old as can be."""
        self._budget.take_entry(self._name)
        self._budget.take_memory(path)
        self._implied.append(path)
        os.mkdir(name, 0o755, dir_fd=parent.fd)
        made = self._tree.child(parent, name, path)
        if not self._ownership.rootless:
            os.fchown(made.fd, *self._ownership.host_ids(0, 0, self._name))
        os.fchmod(made.fd, 0o755)
        made.times = (0, 0)
        if self._created is not None:
            self._created.add(parent.key, name)
        return made

    def _symlink(self, member: Member, directory: Directory, name: str) -> None:
        try:
            os.symlink(member.target, name, dir_fd=directory.fd)
        except FileExistsError:
            self._clear(directory, name)
            os.symlink(member.target, name, dir_fd=directory.fd)
        self._dresser.dress_symlink(directory.fd, name, member)

    def _link(self, member: Member, directory: Directory, name: str) -> None:
        """Another name of a file that is there; whatever else the member says, the file stays as it is."""
        head, _, target = clean(member.target).rpartition("/")
        try:
            source = self._tree.directory(head)
            status = os.stat(target or ".", dir_fd=source.fd, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ArchiveError(member.name, f"a hard link to {member.target!r}, which is not there") from error
        if stat.S_ISDIR(status.st_mode):
            raise ArchiveError(member.name, f"a hard link to {member.target!r}, which is a directory")
        if source is directory and target == name:
            raise ArchiveError(member.name, "a hard link to itself")
        if self._overlay is not None and is_whiteout(status):
            raise ArchiveError(member.name, f"a hard link to {member.target!r}, which was removed")
        try:
            os.link(target, name, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
        except FileExistsError:
            self._clear(directory, name)
            os.link(target, name, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)

    def _node(self, member: Member, directory: Directory, name: str, kind: int) -> None:
        device = 0
        if kind != stat.S_IFIFO:
            if not (0 <= member.major < 1 << 12 and 0 <= member.minor < 1 << 20):
                raise ArchiveError(member.name, f"there is no device {member.major}:{member.minor}")
            device = os.makedev(member.major, member.minor)
            if kind == stat.S_IFCHR and device == DEVICE and self._overlay is not None:
                raise ArchiveError(member.name, "the device 0:0 would be a whiteout here")
            if self._ownership.rootless:
                self._placeholder(member, directory, name)
                return
        try:
            os.mknod(name, kind | 0o600, device, dir_fd=directory.fd)
        except FileExistsError:
            self._clear(directory, name)
            self._node(member, directory, name, kind)
            return
        except PermissionError:
            if kind == stat.S_IFIFO or not self._tolerant:
                raise
            self._placeholder(member, directory, name)
            return
        self._dresser.dress_node(directory.fd, name, member)

    def _placeholder(self, member: Member, directory: Directory, name: str) -> None:
        """For a device that cannot be made here: an empty file that nobody can open."""
        try:
            fd = os.open(name, _CREATE, 0, dir_fd=directory.fd)
        except FileExistsError:
            self._clear(directory, name)
            fd = os.open(name, _CREATE, 0, dir_fd=directory.fd)
        try:
            owner = self._dresser.owner(member)
            if owner is not None:
                os.fchown(fd, *owner)
            os.fchmod(fd, 0)
            os.utime(fd, ns=(member.atime, member.mtime))
        finally:
            os.close(fd)
        self._budget.take_memory(member.name)
        self._placeholders.append(member.name)

    def _clear(self, directory: Directory, name: str) -> None:
        """Whatever has this name gives way. If a path could have led through it, no path is known any more."""
        mode = os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._tree.forget()
        remove(directory.fd, name)

    def _whiteout(self, member: Member, head: str, name: str) -> None:
        if self._mode == "refuse":
            raise ArchiveError(member.name, "a whiteout, but this is no layer of an image")
        target = hidden(member, name)
        self._whiteouts += 1
        if self._overlay is not None:
            with contextlib.suppress(NotADirectoryError):  # it has become a file
                self._overlay.hide(member, self._parent(head), head, target)
            return
        if self._created is None:
            return
        try:
            directory = self._tree.directory(head)
        except (FileNotFoundError, NotADirectoryError):
            return
        if target is not None:
            self._remove_lower(directory, target)
            return
        with os.scandir(directory.fd) as found:
            names = [entry.name for entry in found]
        for lower in names:
            self._remove_lower(directory, lower)

    def _remove_lower(self, directory: Directory, name: str) -> None:
        """What lower layers made of this name, and below it; not what this one did."""
        try:
            mode = os.stat(name, dir_fd=directory.fd, follow_symlinks=False).st_mode
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
                return
            raise
        if stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
            self._tree.forget()
        created = self._created
        remove(directory.fd, name, lambda _, key, name: created is not None and (key, name) in created)


def _has_entries(directory: int) -> bool:
    with os.scandir(directory) as found:
        return any(True for _ in found)


def _in_user_namespace() -> bool:
    """Whether devices and some attributes are out of reach even for root (user_namespaces(7))."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        return file.read().split() != ["0", "0", "4294967295"]
