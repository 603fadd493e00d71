"""What an ordinary user's files keep even their owner from reading is read nonetheless, and is closed again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rootless.user import User, make_user

pytestmark = [pytest.mark.root, pytest.mark.rootless]


@pytest.fixture
def user() -> Iterator[User]:
    yield from make_user()


def test_closed_files_and_directories_are_packed_and_closed_again(user: User) -> None:
    output = user.python("""
import io, stat, tarfile
from pathlib import Path
from ocirt.archive.changes import changes, everything
from ocirt.archive.ownership import Ownership
from ocirt.archive.snapshot import Snapshot
from ocirt.archive.tree import Walk
from ocirt.archive.writing import LayerWriter

def modes():
    found, closed = {}, []
    for name in ("tree", "tree/none", "tree/none/deep", "tree/none/deep/file", "tree/search", "tree/search/file"):
        found[name] = stat.S_IMODE(os.stat(name).st_mode)
        os.chmod(name, 0o755)
        closed.append(name)
    for name in reversed(closed):
        os.chmod(name, found[name])
    return {name: oct(mode) for name, mode in found.items()}

tree = Path("tree")
(tree / "none/deep").mkdir(parents=True)
(tree / "search").mkdir()
(tree / "none/deep/file").write_text("secret")
(tree / "search/file").write_text("unseen")
for path, mode in (("none/deep/file", 0), ("none/deep", 0o100), ("none", 0), ("search/file", 0o200), ("search", 0o600)):
    (tree / path).chmod(mode)
before = modes()
root = os.open("tree", os.O_RDONLY)
ownership = Ownership(rootless=True)
Snapshot.of(root, "record", ownership=ownership)
archive = b"".join(LayerWriter(root).archive(everything(Walk(root, ownership))))
assert modes() == before, modes()
with tarfile.open(fileobj=io.BytesIO(archive)) as file:
    for info in file:
        print(info.name, oct(info.mode), info.uid, file.extractfile(info).read().decode() if info.isfile() else "")
os.chmod("tree/none", 0o700)
os.chmod("tree/none/deep", 0o700)
os.chmod("tree/none/deep/file", 0o600)
Path("tree/none/deep/file").write_text("public")
os.chmod("tree/none/deep/file", 0)
os.chmod("tree/none/deep", 0o100)
os.chmod("tree/none", 0)
record = Snapshot.load("record")
print([change.name for change in changes(record, Walk(root, ownership), root) if change.kind != "unchanged"])
assert modes() == before, modes()
""")
    assert output.splitlines() == [
        ". 0o755 0 ",
        "none 0o0 0 ",
        "none/deep 0o100 0 ",
        "none/deep/file 0o0 0 secret",
        "search 0o600 0 ",
        "search/file 0o200 0 unseen",
        # Of what was opened up in between, only digests of the layers could tell that it holds the same.
        "['none/deep/file', 'search/file']",
    ]


def test_somebody_elses_closed_file_is_an_error(user: User) -> None:
    (user.home / "tree").mkdir()
    (user.home / "tree/file").write_text("secret")
    (user.home / "tree/file").chmod(0o600)
    output = user.python("""
from ocirt.archive.changes import everything
from ocirt.archive.ownership import Ownership
from ocirt.archive.tree import Walk
from ocirt.archive.writing import LayerWriter
root = os.open("tree", os.O_RDONLY)
try:
    b"".join(LayerWriter(root).archive(everything(Walk(root, Ownership(rootless=True)))))
except OCIError as error:
    print(error)
""")
    assert output == "'file': cannot be read: Permission denied\n"
