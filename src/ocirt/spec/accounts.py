"""The users and groups of a root filesystem, and whom a text such as ``alice:audio`` means there.

The files (passwd(5), group(5)) are an image's, so nothing in them is trusted: a line that is none counts for nothing.
Numbers are never looked up as names (CVE-2016-3697), and names that are not there are errors, never root.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from typing import Final, NamedTuple

from ocirt.spec.config import User

PASSWD: Final = "/etc/passwd"
GROUP: Final = "/etc/group"

NO_ID: Final = 2**32 - 1
"""What the kernel takes for none."""

MAX_GROUPS: Final = 65536
"""NGROUPS_MAX, see setgroups(2)."""


class AccountError(ValueError):
    """A user or group that is not there, or no number that could be one; the words say which."""


class Entry(NamedTuple):
    """A line of passwd(5) or group(5): a group has no ``gid`` of its own but its members."""

    name: str
    id: int
    gid: int = 0
    members: tuple[str, ...] = ()


class Accounts:
    """``read`` gives the content of one of the two files, empty where it is absent, when somebody first needs it."""

    def __init__(self, read: Callable[[str], bytes]) -> None:
        self._read = read

    @classmethod
    def of(cls, passwd: bytes = b"", group: bytes = b"") -> Accounts:
        files = {PASSWD: passwd, GROUP: group}
        return cls(files.__getitem__)

    def user(self, text: str) -> User:
        """Whom ``Config.User`` means: ``user``, ``uid``, ``user:group`` and the three others (image-spec, config.md).

        A number is copied. Only a name alone brings the groups that its user is a member of (conversion.md).

        :raises AccountError: a name is not there, or a number is none.
        """
        user, colon, group = text.partition(":")
        if colon:
            return User(self._uid(user), self.group(group) if group else self._gid_of(user))
        if not user or is_number(user):
            return User(self._uid(user), self._gid_of(user))
        entry = self._entry(user)
        return User(entry.id, entry.gid, additional_gids=self.groups_of(user, but=entry.gid))

    def group(self, text: str) -> int:
        """:raises AccountError: there is no such group."""
        if is_number(text):
            return number(text)
        for entry in self.groups:
            if entry.name == text:
                return entry.id
        raise AccountError(f"is no group in {GROUP}")

    def groups_of(self, user: str, *, but: int | None = None) -> tuple[int, ...]:
        """Those that name this user as a member, each once, without the one that is said already."""
        found = dict.fromkeys(entry.id for entry in self.groups if user in entry.members and entry.id != but)
        return tuple(found)[:MAX_GROUPS]

    def entry_of(self, uid: int) -> Entry | None:
        """The first of the users with this number."""
        return next((entry for entry in self.users if entry.id == uid), None)

    @cached_property
    def users(self) -> tuple[Entry, ...]:
        return tuple(_users(self._read(PASSWD)))

    @cached_property
    def groups(self) -> tuple[Entry, ...]:
        return tuple(_groups(self._read(GROUP)))

    def _uid(self, user: str) -> int:
        if not user:
            return 0
        return number(user) if is_number(user) else self._entry(user).id

    def _gid_of(self, user: str) -> int:
        """The primary group; root's where nobody has such a number, as Docker has it."""
        if not user:
            return 0
        if not is_number(user):
            return self._entry(user).gid
        entry = self.entry_of(number(user))
        return 0 if entry is None else entry.gid

    def _entry(self, name: str) -> Entry:
        for entry in self.users:
            if entry.name == name:
                return entry
        raise AccountError(f"is no user in {PASSWD}")


def numeric(text: str) -> User | None:
    """The user of a text that needs no file to be understood: two numbers, or nothing."""
    if not text:
        return User(0, 0)
    user, _, group = text.partition(":")
    return User(number(user), number(group)) if is_number(user) and is_number(group) else None


def is_number(text: str) -> bool:
    """Digits are a number, whatever its size, and never a name."""
    return text.isascii() and text.isdigit()


def number(text: str) -> int:
    """:raises AccountError: it is beyond what an ID can be."""
    value = int(text) if len(text) <= 20 else NO_ID
    if value >= NO_ID:
        raise AccountError("is more than an ID can be")
    return value


def _users(data: bytes) -> Iterator[Entry]:
    for name, fields in _lines(data, 4):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is not None and gid is not None:
            yield Entry(name, uid, gid)


def _groups(data: bytes) -> Iterator[Entry]:
    for name, fields in _lines(data, 3):
        gid = _id(fields[2])
        if gid is not None:
            members = fields[3].split(",") if len(fields) > 3 else []
            yield Entry(name, gid, members=tuple(filter(None, map(str.strip, members))))


def _lines(data: bytes, least: int) -> Iterator[tuple[str, list[str]]]:
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and fields[0] and not fields[0].startswith(("#", "+", "-")):
            yield fields[0], fields


def _id(text: str) -> int | None:
    try:
        return number(text) if is_number(text) else None
    except AccountError:
        return None
