"""Images in a store: each layer unpacked once, shared by all bundles, and gone only when nobody needs it."""

from __future__ import annotations

import hashlib
import os
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from ocirt import Bundle, run
from ocirt.errors import BundleError, DigestMismatch, ImageError, ImageNotFound
from ocirt.host import Host
from ocirt.image import copy, overlay, record
from ocirt.image.image import Image
from ocirt.image.layers import DEAD, UNFINISHED
from ocirt.image.reference import Location
from ocirt.image.repack import repack
from ocirt.image.store import Store, StoredImage, canonical
from ocirt.image.transport import Access, Progress, open_destination, open_source
from ocirt.plan.overlay import ONE_BY_ONE
from tests.engines.images import busybox_image
from tests.image import support
from tests.image.servers import registry
from tests.image.stacks import STACKS, devices, layers
from tests.image.support import busybox_layout, make_layout, tar
from tests.image.test_unpack import TWO, killed_when_it_stalls, size_of_layers
from tests.image.trees import File, tree
from tests.rootless.user import GID, UID, User, make_user
from tests.support import SECONDS, busybox, host_mounts

pytestmark = pytest.mark.root

OPEN = Access(http=True)
LAYERED = [name for name in STACKS if STACKS[name]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


@pytest.fixture
def two(tmp_path: Path) -> str:
    """The name of an image of two layers."""
    return f"oci:{make_layout(tmp_path / 'layout', TWO, compression='none')}:{support.TAG}"


@pytest.fixture
def user() -> Iterator[User]:
    yield from make_user()


def merged(store: Store, stored: StoredImage) -> dict[str, File]:
    """The tree that containers see."""
    held = store.layers.hold(stored.chain)
    assert held is not None
    with held, overlay.merged(held.trees) as root:
        return dict(tree(f"/proc/self/fd/{root}/."))


def layer_names(store: Store) -> set[str]:
    return set(os.listdir(f"{store.root}/layers"))


def snapshot(directory: str) -> list[tuple[str, int, int, int]]:
    """Every inode of a tree, and when it changed last."""
    found = []
    for path, names, files in os.walk(directory):
        for name in (*names, *files):
            status = os.lstat(os.path.join(path, name))
            found.append((os.path.join(path, name), status.st_ino, status.st_ctime_ns, status.st_size))
    return sorted(found)


@pytest.mark.parametrize("name", LAYERED)
def test_a_container_sees_the_tree_that_unpacking_makes(tmp_path: Path, store: Store, name: str) -> None:
    layout = make_layout(tmp_path / "layout", layers(STACKS[name]))
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        flat = image.unpack(tmp_path / "bundle").rootfs
    assert merged(store, store.pull(f"oci:{layout}:{support.TAG}")) == tree(flat)


@pytest.fixture(scope="module")
def ordinary() -> Iterator[Mapping[str, tuple[Path, list[str]]]]:
    """For each stack an ordinary user's bundle, and the trees of the layers in his store, the top one first."""
    for user in make_user():
        for number, name in enumerate(LAYERED):
            make_layout(user.home / f"layout-{number}", layers(STACKS[name]))
        said = user.python(f"""
from ocirt.image.image import Image
from ocirt.image.store import Store
store = Store(HOME + "/store")
for number in range({len(LAYERED)}):
    name = f"oci:{{HOME}}/layout-{{number}}:{support.TAG}"
    with Image.open(name) as image:
        image.unpack(f"{{HOME}}/bundle-{{number}}")
    print(*[each.hex for each in store.pull(name).chain])
""")
        trees = [[f"{user.home}/store/layers/{each}/diff" for each in line.split()[::-1]] for line in said.splitlines()]
        yield {name: (user.home / f"bundle-{number}/rootfs", trees[number]) for number, name in enumerate(LAYERED)}


@pytest.mark.parametrize("name", LAYERED)
def test_so_does_an_ordinary_users(ordinary: Mapping[str, tuple[Path, list[str]]], name: str) -> None:
    bundle, trees = ordinary[name]
    flat = dict(tree(bundle))
    assert rootless_view(trees) == flat
    assert {file.owner for file in flat.values()} == {(UID, GID)}
    assert all(flat[path].mode[0] == "-" for path in devices(STACKS[name]) & flat.keys())


def rootless_view(trees: list[str]) -> dict[str, File]:
    """As ordinary users mount them, in a mount namespace of its own."""
    if len(trees) == 1:
        return dict(tree(trees[0]))
    place = Path(trees[0]).parent / "view"
    place.mkdir()
    mount = 'mount -t overlay -o userxattr,lowerdir=$1 overlay $2 && shift && exec "$2" -c "$3" "$1"'
    show = "import sys, pickle; from tests.image.trees import tree; pickle.dump(tree(sys.argv[1]), sys.stdout.buffer)"
    command = ["unshare", "--mount", "sh", "-c", mount, "sh", ":".join(trees), str(place), sys.executable, show]
    done = subprocess.run(command, capture_output=True, check=False, cwd=Path(__file__).parent.parent.parent)
    assert done.returncode == 0, done.stderr
    found: dict[str, File] = pickle.loads(done.stdout)
    return found


def test_an_image_is_found_by_its_name_in_full(store: Store, two: str) -> None:
    stored = store.pull(two)
    assert stored.name == two
    assert store.image(two) == stored
    assert store.images() == (stored,)
    assert str(stored) == f"{two} {stored.digest.short} linux/amd64"
    assert canonical("debian") == "docker.io/library/debian:latest"
    assert canonical("oci:here:x") == f"oci:{os.getcwd()}/here:x"
    with pytest.raises(ImageNotFound, match="is not in the store"):
        store.image("debian")


def test_nothing_is_unpacked_twice(tmp_path: Path, store: Store, two: str) -> None:
    told: list[Progress] = []
    first = store.pull(two, report=told.append)
    assert {each.action for each in told} == {"download", "unpack"}
    before = snapshot(f"{store.root}/layers")
    told.clear()
    assert store.pull(two, report=told.append) == first
    more = make_layout(tmp_path / "more", [*TWO, tar({"three": b"3"})], compression="none")
    store.pull(f"oci:{more}:{support.TAG}", report=told.append)
    with Image.open(f"oci:{more}:{support.TAG}") as image:
        assert {each.what for each in told} == {image.layers[2].what}
    assert [entry for entry in snapshot(f"{store.root}/layers") if entry in before] == before


def test_a_name_may_come_to_stand_for_another_image(tmp_path: Path, store: Store, two: str) -> None:
    first = store.pull(two)
    shutil.rmtree(tmp_path / "layout")
    make_layout(tmp_path / "layout", [tar({"new": b"n"})])
    assert store.pull(two, policy="missing") == first
    assert store.pull(two, policy="never") == first
    second = store.pull(two, policy="always")
    assert second != first
    assert store.images() == (second,)
    assert len(store.prune().layers) == 2


def test_what_is_not_to_be_pulled_is_not(store: Store, two: str) -> None:
    with pytest.raises(ImageNotFound, match="was not to be pulled"):
        store.pull(two, policy="never")
    assert store.images() == ()


def test_content_that_is_not_what_its_digest_says_leaves_no_layer(tmp_path: Path, store: Store) -> None:
    rootfs = {"type": "layers", "diff_ids": [f"sha256:{digest_of(TWO[0])}", f"sha256:{'1' * 64}"]}
    layout = make_layout(tmp_path / "layout", TWO, rootfs=rootfs)
    with pytest.raises(DigestMismatch, match="uncompressed"):
        store.pull(f"oci:{layout}:{support.TAG}")
    assert layer_names(store) == {digest_of(TWO[0])}
    assert store.images() == ()
    store.prune()
    assert layer_names(store) == set()


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_an_image_without_layers_is_not_kept(tmp_path: Path, store: Store) -> None:
    with pytest.raises(ImageError, match="has no layers"):
        store.pull(f"oci:{make_layout(tmp_path / 'layout')}:{support.TAG}")
    assert store.images() == ()


def test_the_same_layer_may_be_there_twice(tmp_path: Path, store: Store) -> None:
    layout = make_layout(tmp_path / "layout", [TWO[0], TWO[1], TWO[0]])
    stored = store.pull(f"oci:{layout}:{support.TAG}")
    assert len(layer_names(store)) == 3
    with Image.open(f"oci:{layout}:{support.TAG}") as image:
        assert merged(store, stored) == tree(image.unpack(tmp_path / "bundle").rootfs)


def test_ten_bundles_cost_one_unpack(tmp_path: Path, store: Store, two: str) -> None:
    stored = store.pull(two)
    before = snapshot(f"{store.root}/layers")
    for number in range(10):
        bundle = store.bundle(stored, tmp_path / f"bundle-{number}")
        assert Bundle.load(bundle.path).spec == bundle.spec
        assert sorted(os.listdir(bundle.path)) == ["config.json", record.FILE, "rootfs", "upper", "work"]
        size = sum(os.lstat(path).st_size for path, *_ in snapshot(str(bundle.path)) if os.path.isfile(path))
        assert size < 10_000
    assert snapshot(f"{store.root}/layers") == before


def test_a_bundle_is_made_where_nothing_is(tmp_path: Path, store: Store, two: str) -> None:
    stored = store.pull(two)
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle/file").touch()
    with pytest.raises(BundleError, match="is not an empty directory"):
        store.bundle(stored, tmp_path / "bundle")
    with pytest.raises(BundleError, match="overlayfs's options cannot have"):
        store.bundle(stored, tmp_path / "a:b")
    with pytest.raises(ImageError, match="overlayfs's options cannot have"):
        Store(tmp_path / "a,b")
    assert os.listdir(tmp_path / "bundle") == ["file"]
    assert os.listdir(f"{store.root}/bundles") == []


def busybox_layer() -> bytes:
    if busybox() is None:
        pytest.skip("needs a static busybox (Debian: apt-get install busybox-static)")
    return busybox_image().layer


def busybox_in(store: Store, directory: Path) -> StoredImage:
    """busybox below two layers that change something."""
    more = [tar({"etc/motd": b"hello\n", "tmp/x": b"x", "bin/.wh.vi": b""}), tar({"data/f": b"f\n"})]
    config = {"Cmd": ["sh", "-c", "cat /etc/motd /data/f; ls /bin/vi; id -u"]}
    made = make_layout(directory / "layout", [busybox_layer(), *more], config=config)
    return store.pull(f"oci:{made}:{support.TAG}")


def test_containers_see_the_layers_and_write_to_their_bundle_alone(tmp_path: Path, store: Store) -> None:
    stored = busybox_in(store, tmp_path)
    bundles = [store.bundle(stored, tmp_path / f"bundle-{number}") for number in range(2)]
    before, mounts = snapshot(f"{store.root}/layers"), host_mounts()
    done = run([], bundle=bundles[0], root=tmp_path / "state", text=True)
    assert (done.stdout, done.stderr) == ("hello\nf\n0\n", "ls: /bin/vi: No such file or directory\n")
    change = "rm -r /data; echo changed > /etc/motd; mkdir /data; ls -d /tmp; stat -c %a /tmp"
    done = run(["sh", "-c", change], bundle=bundles[0], root=tmp_path / "state", text=True)
    assert (done.stdout, done.stderr) == ("/tmp\n1777\n", "")
    look = ["sh", "-c", "cat /etc/motd; ls /data"]
    assert run(look, bundle=bundles[0], root=tmp_path / "state", text=True).stdout == "changed\n"
    assert run(look, bundle=bundles[1], root=tmp_path / "state", text=True).stdout == "hello\nf\n"
    assert snapshot(f"{store.root}/layers") == before
    assert host_mounts() == mounts


def test_an_ordinary_users_containers_do_too(user: User) -> None:
    layout = busybox_layout(user.home / "layout", config={"Cmd": ["sh", "-c", "echo new > /etc/new; id -u; ls /etc"]})
    said = user.python(f"""
from ocirt.image.store import Store
store = Store(HOME + "/store")
bundle = store.bundle(store.pull("oci:{layout}:{support.TAG}"), HOME + "/bundle")
done = run([], bundle=bundle, root=STATE, text=True)
print(done.stdout, done.stderr, os.listdir(HOME + "/bundle/upper/etc"), store.prune().layers)
""")
    assert said.split() == ["0", "group", "new", "passwd", "['new']", "()"]


def test_runc_runs_such_a_bundle_too(tmp_path: Path, store: Store) -> None:
    support.need("runc")
    bundle = store.bundle(busybox_in(store, tmp_path), tmp_path / "bundle")
    spec = bundle.spec.evolve(oci_version="1.0.2")  # Debian's knows no later one
    (bundle.path / "config.json").write_text(spec.dumps())
    place = (str(tmp_path / "runc"), "run", "--bundle", str(bundle.path))
    command = ["runc", "--root", *place, f"ocirt-test-{os.getpid()}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.stdout == "hello\nf\n0\n", done.stderr


def test_what_containers_wrote_can_be_repacked(tmp_path: Path, store: Store) -> None:
    stored = busybox_in(store, tmp_path)
    bundle = store.bundle(stored, tmp_path / "bundle")
    change = "rm /etc/motd; echo new > /data/new; chmod 700 /data; rm -r /home/alice; mkdir /home/alice; mv /usr /opt"
    assert run(["sh", "-c", change], bundle=bundle, root=tmp_path / "state", text=True).stderr == ""
    layout = tmp_path / "layout"
    with (
        open_source(Location.parse(f"oci:{layout}:{support.TAG}"), Access()) as source,
        open_destination(Location.parse(f"oci:{layout}:changed"), Access()) as destination,
    ):
        repack(bundle.path, source, destination)
    name = f"oci:{layout}:changed"
    again = store.bundle(store.pull(name), tmp_path / "again")
    show = ["sh", "-c", "ls /etc /data /home/alice; cat /data/new; stat -c %a /data; ls -d /usr /opt"]
    old, new = (run(show, bundle=each, root=tmp_path / "state", text=True) for each in (bundle, again))
    assert old.stdout == new.stdout == "/data:\nf\nnew\n\n/etc:\ngroup\npasswd\n\n/home/alice:\nnew\n700\n/opt\n"


def test_prune_removes_what_neither_an_image_nor_a_bundle_needs(tmp_path: Path, store: Store, two: str) -> None:
    stored = store.pull(two)
    bundle = store.bundle(stored, tmp_path / "bundle")
    assert store.prune().layers == ()
    store.remove(two)
    with pytest.raises(ImageNotFound):
        store.remove(two)
    gone = store.prune()
    assert (gone.layers, len(gone.blobs), gone.bundles) == ((), 2, ())
    with pytest.raises(ImageNotFound):
        store.image(two)
    shutil.rmtree(tmp_path / "bundle")
    gone = store.prune()
    assert (set(gone.layers), gone.blobs, gone.bundles) == (names(stored), (), (str(bundle.path),))
    assert all(os.listdir(f"{store.root}/{part}") == [] for part in ("images", "blobs", "layers", "bundles"))


def names(stored: StoredImage) -> set[str]:
    return {chain_id.hex for chain_id in stored.chain}


def test_prune_leaves_what_somebody_holds(store: Store, two: str) -> None:
    stored, held = store.use(two)
    store.remove(two)
    assert store.prune().layers == ()
    held.close()
    assert set(store.prune().layers) == names(stored)


def test_prune_finishes_what_a_killed_one_began(store: Store, two: str) -> None:
    store.pull(two)
    for name in ("half.old", "half.new"):
        os.makedirs(f"{store.root}/layers/{name}/diff/some")
    assert store.prune().layers == ()
    assert not {name for name in layer_names(store) if name.endswith((DEAD, UNFINISHED))}


def test_a_bundle_whose_layers_are_gone_cannot_be_made(tmp_path: Path, store: Store, two: str) -> None:
    stored = store.pull(two)
    store.remove(two)
    store.prune()
    with pytest.raises(ImageNotFound, match="pull it again"):
        store.bundle(stored, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize("point", ["in the first layer", "between the layers", "in the second layer", "last"])
def test_a_killed_pull_leaves_no_image_and_the_next_works(tmp_path: Path, store: Store, two: str, point: str) -> None:
    first, second = size_of_layers(tmp_path / "layout")
    after = {
        "in the first layer": first // 2,
        "between the layers": first + 1,
        "in the second layer": first + second // 2,
        "last": first + second - 1,
    }[point]
    code = "from ocirt.image.store import Store\nStore(sys.argv[3]).add(stalling(sys.argv[1], int(sys.argv[2])), 'x')"
    killed_when_it_stalls(code, two, str(after), store.root)
    assert store.images() == ()
    whole = {name for name in layer_names(store) if not name.endswith(UNFINISHED)}
    assert len(whole) == (0 if point == "in the first layer" else 1)
    assert len(layer_names(store)) == len(whole) + 1
    stored = store.pull(two)
    assert set(merged(store, stored)) == {".", "one", "two", "both"}
    assert layer_names(store) == names(stored)
    assert host_mounts() == [line for line in host_mounts() if store.root not in line]


def test_prune_removes_what_a_killed_pull_left(tmp_path: Path, store: Store, two: str) -> None:
    code = "from ocirt.image.store import Store\nStore(sys.argv[3]).add(stalling(sys.argv[1], int(sys.argv[2])), 'x')"
    killed_when_it_stalls(code, two, str(sum(size_of_layers(tmp_path / "layout")) - 1), store.root)
    store.prune()
    assert layer_names(store) == set()


PULL = """
import sys
from ocirt.image.store import Store
told = []
print("ready", flush=True)
sys.stdin.readline()
stored = Store(sys.argv[1]).pull(sys.argv[2], report=told.append)
print(stored.digest, *{each.what.rpartition(" ")[2] for each in told if each.action == "unpack"})
"""


def test_many_processes_that_pull_the_same_image_unpack_it_once(store: Store, two: str) -> None:
    command = [sys.executable, "-c", PULL, store.root, two]
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)) for _ in range(8)
        ]
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        said = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        for process in processes:
            output, _ = process.communicate(timeout=SECONDS)
            assert process.returncode == 0
            said.append(output.split())
    assert len({digest for digest, *_ in said}) == 1
    unpacked = sorted(layer for _, *layers in said for layer in layers)
    with Image.open(two) as image:
        assert unpacked == sorted(layer.descriptor.digest.short for layer in image.layers)


PRUNE = """
import sys
from ocirt.image.store import Store
store = Store(sys.argv[1])
print("ready", flush=True)
while True:
    store.prune()
"""


def test_pulling_while_others_prune(tmp_path: Path, store: Store) -> None:
    """Each round's image is forgotten again, so that there is always something to remove."""
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        command = [sys.executable, "-c", PRUNE, store.root]
        pruning = [stack.enter_context(subprocess.Popen(command, stdout=pipe, text=True)) for _ in range(2)]
        for process in pruning:
            stack.callback(process.kill)
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for number in range(20):
            layout = make_layout(tmp_path / f"layout-{number}", [TWO[0], tar({"number": str(number).encode()})])
            name = f"oci:{layout}:{support.TAG}"
            stored, held = store.use(name)
            with held:
                bundle = store.bundle(stored, tmp_path / f"bundle-{number}")
            assert set(merged(store, stored)) == {".", "one", "both", "number"}
            store.remove(name)
            assert Path(trees_of(bundle)[0], "number").read_text() == str(number)
            assert [process.poll() for process in pruning] == [None, None]
    kept = {tree for number in range(20) for tree in trees_of(Bundle.load(tmp_path / f"bundle-{number}"))}
    assert all(map(os.path.isdir, kept))
    store.prune()
    assert {f"{store.root}/layers/{name}/diff" for name in layer_names(store)} == kept


def trees_of(bundle: Bundle) -> list[str]:
    (options,) = (mount.options for mount in bundle.spec.mounts if mount.destination == "/")
    return options[0].partition("=")[2].split(":")


def test_threads_may_share_a_store(tmp_path: Path, store: Store, two: str) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            store.bundle(store.pull(two), tmp_path / f"bundle-{number}")
        except BaseException as error:  # noqa: BLE001  # told below
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(os.listdir(f"{store.root}/bundles")) == 6


def test_an_image_with_many_layers(tmp_path: Path, store: Store) -> None:
    """More than mount(2)'s page would hold, where that is not all there is; and a file of each."""
    count = 120 if Host.probe().kernel >= ONE_BY_ONE else 15
    stack = [tar({f"file-{number}": b"", "last": str(number).encode()}) for number in range(count)]
    lowest = busybox_layer()
    made = make_layout(
        tmp_path / "layout", [lowest, *stack], config={"Cmd": ["sh", "-c", "ls /file-* | wc -l; cat /last"]}
    )
    bundle = store.bundle(store.pull(f"oci:{made}:{support.TAG}"), tmp_path / "bundle")
    assert run([], bundle=bundle, root=tmp_path / "state", text=True).stdout == f"{count}\n{count - 1}"


@pytest.mark.usefixtures("home")
def test_from_a_registry_every_layer_is_fetched_once(tmp_path: Path, store: Store) -> None:
    """Though some are fetched before it is their turn; by what Debian's registry writes into its log."""
    count = 6
    stack = [tar({f"file-{number}": os.urandom(300_000), "last": str(number).encode()}) for number in range(count)]
    layout = make_layout(tmp_path / "layout", stack, compression="none")
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as place:
        name = f"{place}/team/app:1"
        copy(f"oci:{layout}:{support.TAG}", f"docker://{name}", dst_access=OPEN)
        stored = store.pull(name, access=OPEN)
        assert store.pull(name, access=OPEN) == stored
        log = (tmp_path / "registry/registry.log").read_text().splitlines()
    assert stored.name == name
    done = [line for line in log if "response completed" in line and '"http.request.method":"GET"' in line]
    digests = [str(layer.digest) for layer in stored.manifest.layers]
    assert [sum(f"/blobs/{digest}" in line for line in done) for digest in digests] == [1] * count
    assert merged(store, stored) == merged(store, store.pull(f"oci:{layout}:{support.TAG}"))
    assert set(merged(store, stored)) == {".", "last", *(f"file-{number}" for number in range(count))}


@pytest.mark.usefixtures("home")
def test_an_error_of_a_layer_that_is_fetched_ahead_is_told(tmp_path: Path, store: Store) -> None:
    """Its registry has lost it."""
    third = tar({"three": b"3"})
    layout = make_layout(tmp_path / "layout", [*TWO, third], compression="none")
    (tmp_path / "registry").mkdir()
    with registry(tmp_path / "registry") as place:
        name = f"{place}/team/app:1"
        copy(f"oci:{layout}:{support.TAG}", f"docker://{name}", dst_access=OPEN)
        (blob,) = (tmp_path / "registry").rglob(f"{digest_of(third)}/data")
        blob.unlink()
        with pytest.raises(ImageError):
            store.pull(name, access=OPEN)
    assert store.images() == ()
    assert len(layer_names(store)) == 2
