"""An ordinary user can do what root can, within what the kernel allows, and is told what it does not."""

from __future__ import annotations

import shutil

import pytest

from tests.rootless.user import COUNT, FIRST, GID, UID, User

pytestmark = [pytest.mark.root, pytest.mark.rootless]

needs_newuidmap = pytest.mark.skipif(
    shutil.which("newuidmap") is None, reason="needs newuidmap (Debian: apt-get install uidmap)"
)

SUBORDINATE = f"""
maps = dict(
    uid_mappings=(IDMapping(0, {UID}, 1), IDMapping(1, {FIRST}, {COUNT})),
    gid_mappings=(IDMapping(0, {GID}, 1), IDMapping(1, {FIRST}, {COUNT})),
)
"""


def test_a_single_mapping_makes_the_user_root_inside(user: User) -> None:
    printed = user.python('print(lived(document("sh", "-c", "id -u; id -g; cat /proc/self/uid_map; hostname")))')
    code, output, errors = eval(printed)
    assert (code, errors) == (0, "")
    assert output.split() == ["0", "0", "0", str(UID), "1", "runc"]


def test_the_user_namespace_is_the_users_on_the_host_too(user: User) -> None:
    printed = user.python(
        'spec = document("sleep", "100")\n'
        "spec = spec.evolve(root=spec.root.evolve(path=ROOTFS))\n"
        'with Container.create("c", Bundle(HOME, spec), root=STATE, stdin=DEVNULL) as c:\n'
        "    c.start()\n"
        '    print([line.split()[1] for line in open(f"/proc/{c.pid}/status") if line.startswith("Uid:")][0])\n'
    )
    assert printed == f"{UID}\n"


def test_exec_signals_and_state_work(user: User) -> None:
    printed = user.python(
        'spec = document("sleep", "100")\n'
        "spec = spec.evolve(root=spec.root.evolve(path=ROOTFS))\n"
        'with Container.create("c", Bundle(HOME, spec), root=STATE, stdin=DEVNULL) as c:\n'
        "    c.start()\n"
        '    inside = c.exec(["sh", "-c", "echo inside; exit 4"], stdout=PIPE)\n'
        "    print(c.status, inside.communicate()[0].decode().strip(), inside.returncode)\n"
        "    c.kill(9)\n"
        "    print(c.wait(), c.status)\n"
    )
    assert printed == "running inside 4\n-9 stopped\n"


def test_what_no_cgroup_is_needed_for_is_observed(user: User) -> None:
    printed = user.python(
        'spec = document("sleep", "100")\n'
        "spec = spec.evolve(root=spec.root.evolve(path=ROOTFS))\n"
        'with Container.create("c", Bundle(HOME, spec), root=STATE, stdin=DEVNULL) as c:\n'
        "    events = c.events()\n"
        "    c.start()\n"
        "    print(len(c.stats().network) > 0)\n"
        "    c.kill(9)\n"
        "    print([(type(event).__name__, event.status.reason) for event in events])\n"
    )
    assert printed == "True\n[('Exited', 'killed by SIGKILL')]\n"


@needs_newuidmap
def test_subordinate_ids_make_other_users_possible(user: User) -> None:
    printed = user.python(
        SUBORDINATE + 'print(lived(document("sh", "-c", "id -u; id -G; touch /dev/shm/x; stat -c %u /dev/shm/x",'
        " user=User(uid=1000, gid=1000, additional_gids=(7,)), **maps).evolve(hostname=None)))",
        subordinate=True,
    )
    code, output, _ = eval(printed)
    assert code == 0
    assert output.split() == ["1000", "1000", "7", "1000"]


def test_one_call_needs_no_image(user: User) -> None:
    printed = user.python(
        'done = run(["sh", "-c", "id -u; ls /home; echo x >/tmp/y"], root=STATE)\nprint(done.returncode, done.stdout)'
    )
    assert printed == "0 b'0\\n'\n"


def test_the_default_root_is_below_the_runtime_directory(user: User) -> None:
    assert user.python(
        'os.environ["XDG_RUNTIME_DIR"] = HOME\nfrom ocirt.state import default_root\nprint(default_root())'
    ) == (f"{user.home}/ocirt\n")


@pytest.mark.parametrize(
    ("changes", "origin", "words"),
    [
        (
            "linux=linux.evolve(namespaces=(), uid_mappings=(), gid_mappings=())",
            "linux.namespaces",
            "rootless container requires user namespaces",
        ),
        (
            f"linux=linux.evolve(uid_mappings=(IDMapping(0, {UID}, 1), IDMapping(1, 500000, 10)))",
            "linux.uidMappings[1]",
            "no entry in /etc/subuid",
        ),
        (
            "process=process.evolve(user=User(uid=0, gid=0, additional_gids=(7,)))",
            "process.user.additionalGids",
            "cannot set any additional groups",
        ),
        ("process=process.evolve(user=User(uid=5, gid=0))", "process.user.uid", "unmapped uid 5"),
    ],
)
def test_what_cannot_be_is_refused_with_its_remedy(user: User, changes: str, origin: str, words: str) -> None:
    printed = user.python(
        'spec = document("true")\nlinux, process = spec.linux, spec.process\n'
        f"spec = spec.evolve({changes}, hostname=None)\n"
        "try:\n    lived(spec)\nexcept UnsupportedError as error:\n    print(error.origin, '|', error.needs)\n"
        "assert not containers(root=STATE)\n"
    )
    where, _, what = printed.partition(" | ")
    assert where == origin
    assert words in what


@needs_newuidmap
def test_ids_outside_the_allowance_are_refused(user: User) -> None:
    printed = user.python(
        SUBORDINATE.replace(f"{FIRST}, {COUNT}", "500000, 10")
        + 'try:\n    lived(document("true", **maps))\nexcept UnsupportedError as error:\n    print(error)\n',
        subordinate=True,
    )
    assert printed.startswith(
        "linux.uidMappings[1]: host IDs 500000-500009 are not user 64111's own: those are 3000000-"
    )


def test_limits_without_a_cgroup_of_the_users_own_are_refused_and_no_limits_are_no_error(user: User) -> None:
    printed = user.python(
        "from ocirt.errors import UnsupportedError\n"
        "from ocirt.spec.limits import Pids\n"
        'spec = document("true")\n'
        "limited = spec.evolve(linux=spec.linux.evolve(resources=Resources(pids=Pids(5))))\n"
        "print(lived(spec)[0])\n"
        "try:\n"
        "    lived(limited)\n"
        "except UnsupportedError as error:\n"
        "    print(error.origin, error.needs.partition(':')[0])\n"
    )
    words = "rootless needs no limits + no cgrouppath when no permission is granted for cgroups"
    assert printed == f"0\nlinux.resources.pids.limit {words}\n"
