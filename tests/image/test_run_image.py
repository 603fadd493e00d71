"""``ocirt.run(image=…)``: the image's program as docker would run it, and nothing left but the image."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import bind, run
from ocirt.errors import ImageError, ImageNotFound
from ocirt.image.store import Store
from tests.image import support
from tests.image.support import make_layout, tar
from tests.image.test_store import busybox_layer, layer_names, snapshot
from tests.rootless.user import User, make_user
from tests.support import host_mounts

pytestmark = pytest.mark.root

CONFIG = {
    "Entrypoint": ["sh", "-c", '"$@"; echo "status $?"', "entry"],
    "Cmd": ["echo", "from Cmd"],
    "Env": ["PATH=/bin:/usr/bin", "WORD=of the image"],
    "WorkingDir": "/usr",
    "User": "alice",
    "Volumes": {"/data": {}},
}
MORE = [tar({"hello": b"hi\n", "bin/.wh.vi": b""}), tar({"data/file": b"data\n", "hello": b"hello\n"})]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def user() -> Iterator[User]:
    yield from make_user()


def image(directory: Path, **config: object) -> str:
    """The name of an image of three layers."""
    layout = make_layout(directory / "layout", [busybox_layer(), *MORE], config={**CONFIG, **config})
    return f"oci:{layout}:{support.TAG}"


def said(tmp_path: Path, store: Store, *args: str, name: str | None = None, **options: object) -> str:
    """What a program of the image wrote to both streams."""
    known = name if name is not None else image(tmp_path)
    done = run(args, image=known, store=store, root=tmp_path / "state", text=True, **options)  # type: ignore[call-overload]  # of run
    assert done.returncode == 0
    return str(done.stdout + done.stderr)


def test_without_arguments_it_runs_what_the_image_says(tmp_path: Path, store: Store) -> None:
    assert said(tmp_path, store) == "from Cmd\nstatus 0\n"


def test_arguments_take_the_place_of_cmd_and_come_after_the_entrypoint(tmp_path: Path, store: Store) -> None:
    assert said(tmp_path, store, "echo", "mine") == "mine\nstatus 0\n"


def test_environment_directory_and_user_are_the_images(tmp_path: Path, store: Store) -> None:
    show = "echo $WORD; pwd; id -u; id -G; echo $HOME"
    assert said(tmp_path, store, "sh", "-c", show) == "of the image\n/usr\n1000\n1000 29\n/home/alice\nstatus 0\n"


def test_the_caller_may_want_others(tmp_path: Path, store: Store) -> None:
    show = ("sh", "-c", "echo $WORD; pwd; id -u; hostname; cat /shown")
    (tmp_path / "shown").write_text("shown\n")
    mounts = [bind(tmp_path / "shown", "/shown")]
    found = said(tmp_path, store, *show, mounts=mounts, env={"WORD": "mine"}, cwd="/bin", user=7, hostname="there")
    assert found == "mine\n/bin\n7\nthere\nshown\nstatus 0\n"


def test_it_sees_all_layers_and_its_volumes_content(tmp_path: Path, store: Store) -> None:
    assert said(tmp_path, store, "cat", "/hello", "/data/file") == "hello\ndata\nstatus 0\n"
    assert said(tmp_path, store, "ls", "/bin/vi", name=f"oci:{tmp_path}/layout:{support.TAG}").endswith(
        "ls: /bin/vi: No such file or directory\n"
    )


def test_what_it_writes_is_thrown_away(tmp_path: Path, store: Store) -> None:
    name = image(tmp_path, User="")
    store.pull(name)
    before, mounts = snapshot(store.root), host_mounts()
    change = ("sh", "-c", "rm -r /data /bin/busybox; echo changed > /hello")
    assert said(tmp_path, store, *change, name=name) == "status 0\n"
    assert said(tmp_path, store, "cat", "/hello", "/data/file", name=name) == "hello\ndata\nstatus 0\n"
    assert snapshot(store.root) == before
    assert host_mounts() == mounts
    assert os.listdir(tmp_path / "state") == []


def test_an_ordinary_user_can_do_it_all(user: User) -> None:
    """Without subordinate IDs: whoever the image wants to run as is the caller, and all files are his."""
    name = image(user.home)
    other = image(user.home / "other", User="")
    found = user.python(f"""
store = HOME + "/store"
show = ["sh", "-c", "id -u; cat /hello /data/file; touch /usr/new && ls -ln /usr/new | cut -c 1-10; ls /bin/vi"]
for name in ({name!r}, {other!r}):
    for _ in range(2):
        done = run(show, image=name, store=store, root=STATE, text=True)
        print(repr(done.stdout), repr(done.stderr), done.returncode)
print(os.listdir(STATE))
""")
    error = "'ls: /bin/vi: No such file or directory\\n' 0\n"
    lines = [f"'{uid}\\nhello\\ndata\\n-rw-r--r--\\nstatus 1\\n' {error}" for uid in (1000, 1000, 0, 0)]
    assert found == "".join(lines) + "[]\n"


def test_the_image_is_pulled_when_it_is_missing_or_as_the_caller_wants(tmp_path: Path, store: Store) -> None:
    name = image(tmp_path)
    with pytest.raises(ImageNotFound, match="was not to be pulled"):
        said(tmp_path, store, "true", name=name, pull="never")
    assert said(tmp_path, store, "true", name=name) == "status 0\n"
    os.rename(tmp_path / "layout", tmp_path / "gone")
    assert said(tmp_path, store, "true", name=name) == "status 0\n"
    assert said(tmp_path, store, "true", name=name, pull="never") == "status 0\n"
    with pytest.raises(ImageNotFound):
        said(tmp_path, store, "true", name=name, pull="always")


def test_prune_leaves_the_layers_of_what_runs(tmp_path: Path, store: Store) -> None:
    """Somebody forgets the image and prunes while its program waits for its input."""
    name = image(tmp_path, Entrypoint=[], User="")
    there, back = os.pipe()
    out, heard = os.pipe()
    script = ("sh", "-c", f"echo started >&{heard}; read word <&{there}; cat /hello")
    found: list[str] = []
    try:
        thread = threading.Thread(
            target=lambda: found.append(said(tmp_path, store, *script, name=name, pass_fds=(there, heard)))
        )
        thread.start()
        assert os.read(out, 100) == b"started\n"
        store.remove(name)
        assert store.prune().layers == ()
        os.write(back, b"go\n")
        thread.join()
    finally:
        for fd in (there, back, out, heard):
            os.close(fd)
    assert found == ["hello\n"]
    assert len(store.prune().layers) == 3
    assert layer_names(store) == set()


def test_an_image_without_a_program_needs_arguments(tmp_path: Path, store: Store) -> None:
    name = image(tmp_path, Entrypoint=[], Cmd=[])
    with pytest.raises(ImageError, match="names no program to run"):
        said(tmp_path, store, name=name)
    assert said(tmp_path, store, "echo", "mine", name=name) == "mine\n"


def test_an_image_has_files_of_its_own(tmp_path: Path, store: Store) -> None:
    with pytest.raises(ValueError, match="files of their own"):
        run(["true"], image="debian", rootfs="/", store=store)


def test_its_resources_may_be_limited(tmp_path: Path, store: Store) -> None:
    done = run([], image=image(tmp_path), store=store, root=tmp_path / "state", memory="64M", text=True)
    assert done.returncode == 0
    assert done.peak_memory_bytes is not None
    assert done.peak_memory_bytes < 64 << 20
