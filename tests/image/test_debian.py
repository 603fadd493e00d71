"""A Debian goes all the way: made by debootstrap, packed, pushed, pulled and run, by root and by an ordinary user."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ocirt import Bundle, run
from ocirt.image import Access, ContainerConfig, Image, Store
from tests.image.servers import registry
from tests.image.support import need, skopeo, umoci
from tests.lifecycle.test_debian import mirror
from tests.rootless.user import User, make_user

pytestmark = [pytest.mark.root, pytest.mark.slow]

CONFIG = ContainerConfig(cmd=("apt-get", "--version"), env=("PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"))


@pytest.fixture
def user() -> Iterator[User]:
    yield from make_user()


@pytest.fixture(scope="module")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An image in a registry."""
    where = mirror()
    if where is None or not (shutil.which("mmdebstrap") or shutil.which("debootstrap")):
        pytest.skip("needs debootstrap and a Debian mirror in /etc/apt (Debian: apt-get install debootstrap)")
    work = tmp_path_factory.mktemp("debian")
    made = Bundle.from_debootstrap(work / "made", "bookworm", mirror=where)
    with registry(work) as host:
        name = f"docker://{host}/debian:12"
        Image.from_rootfs(made.rootfs, name, config=CONFIG, access=Access(http=True))
        yield name


def test_root_pulls_and_runs_it(debian: str, tmp_path: Path) -> None:
    done = run([], image=debian, access=Access(http=True), store=tmp_path / "store", text=True)
    assert done.stdout.startswith("apt 2.6")


def test_root_unpacks_and_runs_it(debian: str, tmp_path: Path) -> None:
    with Image.open(debian, access=Access(http=True)) as image:
        bundle = image.unpack(tmp_path / "bundle")
    assert run([], bundle=bundle, text=True).stdout.startswith("apt 2.6")


def test_an_ordinary_user_pulls_and_runs_it(debian: str, user: User) -> None:
    code = f"""
from ocirt.image import Access
done = run([], image={debian!r}, access=Access(http=True), store=HOME + "/store", root=STATE, text=True)
print(done.stdout, done.stderr)
"""
    assert user.python(code, patience=5).startswith("apt 2.6")


def test_an_ordinary_user_unpacks_and_runs_it(debian: str, user: User) -> None:
    code = f"""
from ocirt.image import Access, Image
with Image.open({debian!r}, access=Access(http=True)) as image:
    bundle = image.unpack(HOME + "/bundle")
print(run([], bundle=bundle, root=STATE, text=True).stdout)
"""
    assert user.python(code, patience=5).startswith("apt 2.6")


def test_others_read_what_ocirt_pushed(debian: str, tmp_path: Path) -> None:
    need("skopeo", "umoci")
    layout = tmp_path / "layout"
    skopeo("copy", "--src-tls-verify=false", debian, f"oci:{layout}:debian")
    assert json.loads(skopeo("inspect", "--tls-verify=false", debian))["Env"] == list(CONFIG.env)
    umoci("unpack", "--image", f"{layout}:debian", tmp_path / "bundle")
    store = Store(tmp_path / "store")
    store.pull(f"oci:{layout}:debian")
    assert (tmp_path / "bundle/rootfs/usr/bin/apt-get").stat().st_size > 0
    assert store.image(f"oci:{layout}:debian").config.config.cmd == CONFIG.cmd
