"""An archive becomes part of a tree.

What is made is made in an open directory, under a name that was free, and from then on used by its descriptor; so
nothing that an archive says leads anywhere else. The rules are umoci's, since its trees are what others expect: an
existing entry gives way unless both are directories; a directory keeps the times that the archive says, or that it had;
whiteouts remove what lower layers made and never what their own layer makes, whatever the order.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import Final, Literal, TypeAlias

from attrs import frozen

from ocirt.archive.headers import Archive, Kind, Member
from ocirt.archive.metadata import Dresser
from ocirt.archive.ownership import Ownership
from ocirt.archive.paths import DIRECTORY, SINGLE, Directory, Tree, clean, openat2
from ocirt.archive.removal import remove
from ocirt.archive.source import Stream
from ocirt.archive.whiteouts import PREFIX, hidden, is_in_one
from ocirt.errors import ArchiveError

Whiteouts: TypeAlias = Literal["apply", "overlay", "refuse", "keep"]
"""What becomes of ``.wh.`` files: what they name is removed; overlayfs' own form of them; an error; files as any."""

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_WHITEOUT: Final = os.makedev(0, 0)


@frozen
class ExtractLimits:
    """What an archive may ask for at most. ``None`` is no limit."""

    bytes: int | None = None
    """Of data, holes not counted."""
    entries: int | None = 5_000_000
    """Members, and directories that are made for them: each takes an inode, and up to a hundred bytes of memory."""


@frozen
class Extracted:
    """What was in the archive, and what of it could not be had."""

    entries: int
    bytes: int
    whiteouts: int
    implied: tuple[str, ...]
    """Directories of which the archive said nothing but that there is something in them."""
    placeholders: tuple[str, ...]
    """Devices that became empty files."""
    skipped_xattrs: Mapping[str, int]
    """Extended attributes that were not set, with their numbers of files."""
    opaque_root: bool
    """Nothing of lower layers is to be seen at all, which overlayfs cannot be told in the root of a layer."""

    @property
    def notes(self) -> tuple[str, ...]:
        """The same, in words."""
        devices = len(self.placeholders)
        first = f"{devices} device{'s' * (devices != 1)} became empty files: {', '.join(self.placeholders[:5])}"
        if devices > 5:
            first += ", ..."
        rest = (f"the attribute {name} was not set on {count} files" for name, count in self.skipped_xattrs.items())
        return (*((first,) if devices else ()), *rest)


def extract(
    stream: Stream,
    root: int | str | os.PathLike[str],
    *,
    ownership: Ownership = Ownership(),  # noqa: B008  # frozen
    whiteouts: Whiteouts = "apply",
    keep_dirlinks: bool = False,
    userxattr: bool = False,
    needs_end: bool = True,
    limits: ExtractLimits = ExtractLimits(),  # frozen
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
        # In an empty tree there is nothing that a whiteout could remove, or keep.
        track = whiteouts == "apply" and _has_entries(root)
        self._tree = Tree(root, careful=careful, track=track)
        self._archive = archive
        self._ownership = ownership
        self._dresser = Dresser(ownership, tolerant=tolerant)
        self._tolerant = tolerant
        self._mode = whiteouts
        self._applies = track
        self._keep_dirlinks = keep_dirlinks
        self._opaque = "user.overlay.opaque" if userxattr else "trusted.overlay.opaque"
        self._entries_left = limits.entries if limits.entries is not None else -1
        self._bytes_left = limits.bytes if limits.bytes is not None else -1
        self._limits = limits
        self._member: Member | None = None
        self._entries = self._bytes = self._whiteouts = 0
        self._implied: list[str] = []
        self._placeholders: list[str] = []
        self._opaque_root = False

    def run(self) -> Extracted:
        member = None
        try:
            for member in self._archive:
                self._member = member
                self._count()
                self._place(member)
                self._tree.tidy()
            self._tree.close()
        except OSError as error:
            if error is self._archive.source.failure:
                raise
            name = member.name if member is not None else ""
            raise ArchiveError(name, f"cannot be made: {self._reason(error, name)}") from error
        return Extracted(
            self._entries,
            self._bytes,
            self._whiteouts,
            tuple(self._implied),
            tuple(self._placeholders),
            dict(self._dresser.skipped),
            self._opaque_root,
        )

    def close(self) -> None:
        self._tree.abandon()

    def _reason(self, error: OSError, member: str) -> str:
        text = error.strerror or str(error)
        if error.filename and error.filename != member and len(str(error.filename)) < 256:
            text += f": {error.filename!r}"
        if isinstance(error, PermissionError) and os.geteuid() != 0 and not self._ownership.rootless:
            text += "; an ordinary user's files are the user's own: rootless=True keeps other owners aside"
        return text

    def _count(self) -> None:
        self._entries += 1
        self._take_entry()
        stored = self._archive.stored
        self._bytes += stored
        if self._bytes_left >= 0:
            if stored > self._bytes_left:
                raise ArchiveError(self._name, f"the archive has more than {self._limits.bytes} bytes of data")
            self._bytes_left -= stored

    def _take_entry(self) -> None:
        if self._entries_left == 0:
            raise ArchiveError(self._name, f"the archive has more than {self._limits.entries} entries")
        self._entries_left -= 1

    @property
    def _name(self) -> str:
        return self._member.name if self._member is not None else ""

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
        if directory.created is not None:
            directory.created.add(name)

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
        if replaced and self._mode == "overlay":
            os.setxattr(made.fd, self._opaque, b"y")

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
            if self._mode != "overlay" or not self._uncover(path):
                raise
        return self._tree.directory(path, self._make_parent)

    def _uncover(self, path: str) -> bool:
        """A directory in the place of a whiteout of this layer, on the way to something else of this layer."""
        at = ""
        for name in path.split("/"):
            above = self._tree.directory(at)
            at = f"{at}/{name}" if at else name
            status = os.stat(name, dir_fd=above.fd, follow_symlinks=False)
            if stat.S_ISCHR(status.st_mode) and status.st_rdev == _WHITEOUT:
                self._clear(above, name)
                os.setxattr(self._make_parent(above, name, at).fd, self._opaque, b"y")
                return True
        return False

    def _make_parent(self, parent: Directory, name: str, path: str) -> Directory:
        """A directory that the archive implies: root's, open to all, as old as can be."""
        self._take_entry()
        self._implied.append(path)
        os.mkdir(name, 0o755, dir_fd=parent.fd)
        made = self._tree.child(parent, name, path)
        if not self._ownership.rootless:
            os.fchown(made.fd, *self._ownership.host_ids(0, 0, self._name))
        os.fchmod(made.fd, 0o755)
        made.times = (0, 0)
        if parent.created is not None:
            parent.created.add(name)
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
        if self._mode == "overlay" and stat.S_ISCHR(status.st_mode) and status.st_rdev == _WHITEOUT:
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
            if kind == stat.S_IFCHR and device == _WHITEOUT and self._mode == "overlay":
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
        if self._mode == "overlay":
            self._hide(member, self._parent(head), target)
            return
        if not self._applies:
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
        remove(directory.fd, name, self._tree.created)

    def _hide(self, member: Member, directory: Directory, target: str | None) -> None:
        """In overlayfs' form (its documentation in Linux): a device 0:0, or an attribute of a directory."""
        if target is None:
            if directory is self._tree.root:
                self._opaque_root = True
            os.setxattr(directory.fd, self._opaque, b"y")
            return
        try:
            os.mknod(target, stat.S_IFCHR, _WHITEOUT, dir_fd=directory.fd)
        except FileExistsError:
            # This layer's own. As a directory it would show what a lower layer has in it.
            if stat.S_ISDIR(os.stat(target, dir_fd=directory.fd, follow_symlinks=False).st_mode):
                made = self._tree.child(directory, target, clean(member.name).rpartition("/")[0] + f"/{target}")
                os.setxattr(made.fd, self._opaque, b"y")
            return
        os.utime(target, ns=(member.atime, member.mtime), dir_fd=directory.fd, follow_symlinks=False)


def _has_entries(directory: int) -> bool:
    with os.scandir(directory) as found:
        return any(True for _ in found)


def _in_user_namespace() -> bool:
    """Whether devices and some attributes are out of reach even for root (user_namespaces(7))."""
    with open("/proc/self/uid_map", encoding="utf-8") as file:
        return file.read().split() != ["0", "0", "4294967295"]
