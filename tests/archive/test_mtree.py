"""What umoci records is read as what the tree is."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ocirt.archive.mtree import Mtree
from ocirt.archive.ownership import Ownership
from ocirt.errors import ArchiveError
from ocirt.spec import IDMapping

TIME = b"tar_time=1795653275.000000000"
DIGEST = b"98ea6e4f216f2fb4b69fff9b3a44842c38686ca685f3f55dc48c5d3fb1107be4"
UMOCI = rb"""#          user: root
#       machine: vm
#          tree: bun/rootfs
#          date: Thu Nov 26 00:34:34 2026
#      keywords: size,type,uid,gid,mode,link,nlink,tar_time,sha256digest,xattr

# .
/set type=file nlink=1 mode=0664 uid=0 gid=0
. size=4096 type=dir mode=0755 nlink=3 TIME

# etc
etc size=4096 type=dir mode=0755 nlink=2 TIME
    a size=3 uid=5 gid=6 mode=04644 nlink=2 TIME sha256digest=DIGEST xattr.user.foo=YmFy
    c size=1 type=link mode=0777 link=a\040b TIME
    n size=0 type=char mode=0644 TIME
    sp\040ace\377 size=3 mode=0644 TIME sha256digest=DIGEST
..
..
""".replace(b"TIME", TIME).replace(b"DIGEST", DIGEST)
"""As umoci 0.4.7 wrote it."""


def test_umocis_record_is_the_tree(tmp_path: Path) -> None:
    (tmp_path / "mtree").write_bytes(UMOCI)
    found = {entry.path: entry for entry in Mtree(tmp_path / "mtree", Ownership())}
    assert list(found) == [b"", b"etc", b"etc/a", b"etc/c", b"etc/n", b"etc/sp ace\xff"]
    a = found[b"etc/a"]
    assert (a.mode, a.uid, a.gid, a.size, a.nlink) == (stat.S_IFREG | 0o4644, 5, 6, 3, 2)
    assert a.mtime_ns == 1795653275 * 10**9
    assert a.xattrs == ((b"user.foo", b"bar"),)
    assert a.digest is not None
    assert a.digest.hex().startswith("98ea6e4f")
    assert found[b"etc/c"].link == b"a b"
    assert (stat.S_ISCHR(found[b"etc/n"].mode), found[b"etc/n"].rdev) == (True, -1)
    assert found[b"etc"].is_directory


def test_its_owners_are_the_hosts(tmp_path: Path) -> None:
    (tmp_path / "mtree").write_bytes(UMOCI.replace(b"uid=0 gid=0", b"uid=1000 gid=1000").replace(b"uid=5", b"uid=1005"))
    mapping = (IDMapping(0, 1000, 100),)
    found = {
        entry.path: entry for entry in Mtree(tmp_path / "mtree", Ownership(mapping, (*mapping, IDMapping(206, 6, 1))))
    }
    assert (found[b"etc/a"].uid, found[b"etc/a"].gid, found[b"etc"].uid) == (5, 206, 0)


def test_rootless_owners_are_in_the_attribute(tmp_path: Path) -> None:
    text = UMOCI.replace(b"xattr.user.foo=YmFy", b"xattr.user.rootlesscontainers=CAUQBg==")
    (tmp_path / "mtree").write_bytes(text)
    found = {entry.path: entry for entry in Mtree(tmp_path / "mtree", Ownership(rootless=True))}
    assert (found[b"etc/a"].uid, found[b"etc/a"].gid, found[b"etc/a"].xattrs) == (5, 6, ())
    assert (found[b"etc/c"].uid, found[b"etc/c"].gid) == (0, 0)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"    a size", b"    ../a size"),
        (b"    a size", b"    a/b size"),
        (b"type=char", b"type=door"),
        (b"size=3", b"size=three"),
        (b"uid=5", b"uid=five"),
        (b"..\n..\n", b"..\n"),
        (b"..\n..\n", b"..\n..\n..\n"),
        (b"sha256digest=98", b"sha1digest=98"),
        (b"xattr.user.foo=YmFy", b"xattr.user.foo=?"),
        (TIME + b" sha256digest", b"tar_time=1795653275.5 sha256digest"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, old: bytes, new: bytes) -> None:
    text = UMOCI.replace(old, new, 1)
    assert text != UMOCI
    (tmp_path / "mtree").write_bytes(text)
    with pytest.raises(ArchiveError, match="is not as umoci writes it"):
        list(Mtree(tmp_path / "mtree", Ownership()))
