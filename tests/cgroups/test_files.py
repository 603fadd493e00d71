"""Cgroups made, joined, emptied and removed for real, below our own."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading

import pytest

import ocirt
from ocirt.cgroups import layout, tree
from ocirt.cgroups.choice import choose
from ocirt.cgroups.devices import device_list, device_writes
from ocirt.cgroups.files import Cgroup, Directory, survey
from ocirt.errors import SetupError
from ocirt.spec.linux import DeviceRule

from .machines import Spawn, v1

HERE = layout.here()

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(not HERE.directories, reason="no cgroup hierarchy is mounted here"),
]
needs_v1 = pytest.mark.skipif(HERE.layout.mode not in ("v1", "hybrid"), reason="needs cgroup version 1")


def own_lines(pid: int) -> list[str]:
    with open(f"/proc/{pid}/cgroup") as file:
        return file.read().splitlines()


def everywhere(cgroup: Cgroup) -> list[bool]:
    return [os.path.isdir(directory.path) for directory in cgroup.directories]


def test_it_is_made_in_every_hierarchy_and_removed_from_each(cgroup: Cgroup) -> None:
    assert len(cgroup.directories) == len(HERE.directories)
    assert all(everywhere(cgroup))
    cgroup.remove()
    assert not any(everywhere(cgroup))


def test_removing_twice_succeeds(cgroup: Cgroup) -> None:
    cgroup.remove()
    cgroup.remove()


def test_a_process_joins_every_hierarchy(cgroup: Cgroup, name: str, spawn: Spawn) -> None:
    process = spawn()
    cgroup.join(process.pid)
    lines = own_lines(process.pid)
    assert len([line for line in lines if line.endswith("/" + name)]) == len(cgroup.directories)
    assert cgroup.processes() == (process.pid,)


@needs_v1
def test_joining_version_1_alone_leaves_version_2_as_it_is(cgroup: Cgroup, name: str, spawn: Spawn) -> None:
    process = spawn()
    before = [line for line in own_lines(process.pid) if line.startswith("0::")]
    cgroup.join(process.pid, versions=(1,))
    assert [line for line in own_lines(process.pid) if line.startswith("0::")] == before
    assert not any(line.endswith("/" + name) for line in before)


def test_the_version_2_descriptor_is_the_directory_and_stays_with_us(cgroup: Cgroup) -> None:
    paths = [directory.path for directory in cgroup.directories if directory.version == 2]
    fd = cgroup.open_v2()
    if fd is None:
        assert paths == []
        return
    try:
        assert os.path.samestat(os.fstat(fd), os.stat(paths[0]))
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_joining_a_process_that_is_gone_hides_nothing_of_what_it_died_of(cgroup: Cgroup, spawn: Spawn) -> None:
    process = spawn("true")
    process.wait()
    cgroup.join(process.pid)
    assert cgroup.processes() == ()


def test_joining_names_the_file_that_refused(cgroup: Cgroup, spawn: Spawn) -> None:
    process = spawn("sleep", "1000")
    gone = Cgroup(tuple(directory._replace(path=f"{directory.path}/absent") for directory in cgroup.directories))
    with pytest.raises(SetupError) as caught:
        gone.join(process.pid)
    assert (caught.value.origin, caught.value.operation, caught.value.call) == (
        "linux.cgroupsPath",
        "JoinCgroup",
        "write",
    )
    assert caught.value.errno == errno.ENOENT
    assert caught.value.detail == gone.directories[0].path + "/cgroup.procs"


def test_opening_what_is_gone_names_it() -> None:
    path = f"/sys/fs/cgroup/absent-{os.getpid()}"
    with pytest.raises(SetupError) as caught:
        Cgroup((Directory(path, (), 2),)).open_v2()
    assert (caught.value.operation, caught.value.errno, caught.value.detail) == ("OpenCgroup", errno.ENOENT, path)


@needs_v1
def test_cpusets_are_what_the_parent_has(name: str) -> None:
    cgroup = survey(choose(HERE, f"{name}/a/b", "id"))
    cgroup.make()
    own = next((own for hierarchy, own in HERE.directories if "cpuset" in hierarchy.controllers), None)
    if own is None:
        pytest.skip("the cpuset controller is not on cgroup version 1 here")
    for file in ("cpuset.cpus", "cpuset.mems"):
        expected = tree.read(f"{own}/{file}")
        assert expected.strip()
        assert [tree.read(f"{own}/{name}{below}/{file}") for below in ("", "/a", "/a/b")] == [expected] * 3


def test_missing_parents_are_made_and_removed_again(name: str) -> None:
    cgroup = survey(choose(HERE, f"{name}/a/b", "id"))
    assert [len(directory.parents) for directory in cgroup.directories] == [2] * len(HERE.directories)
    cgroup.make()
    assert all(everywhere(cgroup))
    cgroup.remove()
    assert not any(os.path.exists(parent) for directory in cgroup.directories for parent in directory.parents)


def test_parents_that_were_there_stay(name: str) -> None:
    for _, own in HERE.directories:
        os.mkdir(f"{own}/{name}")
    cgroup = survey(choose(HERE, f"{name}/a/b", "id"))
    cgroup.make()
    cgroup.remove()
    for _, own in HERE.directories:
        assert os.path.isdir(f"{own}/{name}")
        assert not os.path.exists(f"{own}/{name}/a")


def test_a_parent_that_others_use_by_now_stays(name: str) -> None:
    first = survey(choose(HERE, f"{name}/one", "id"))
    first.make()
    second = survey(choose(HERE, f"{name}/two", "id"))
    second.make()
    first.remove()
    assert all(everywhere(second))
    second.remove()


def test_the_record_alone_is_enough_for_another_process_to_remove_it(cgroup: Cgroup) -> None:
    record = json.dumps(cgroup.to_json())
    code = "import json, sys; from ocirt.cgroups.files import Cgroup; Cgroup.from_json(json.load(sys.stdin)).remove()"
    subprocess.run([sys.executable, "-c", code], input=record.encode(), check=True, env=_environment())
    assert not any(everywhere(cgroup))


def test_removing_needs_no_attrs() -> None:
    # A bare package stands in for ours, whose __init__ may import whatever it offers.
    code = f"""
import sys, types
sys.modules["ocirt"] = package = types.ModuleType("ocirt")
package.__path__ = {list(ocirt.__path__)}
import ocirt.cgroups.files
sys.exit("attr" in sys.modules or "cattrs" in sys.modules)
"""
    subprocess.run([sys.executable, "-S", "-c", code], check=True, env=_environment())


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def test_a_record_survives_json() -> None:
    cgroup = Cgroup((Directory("/c/a/b", ("cpu", "cpuacct"), 1, ("/c", "/c/a"), ("/c/a",)), Directory("/u/b", (), 2)))
    assert Cgroup.from_json(json.loads(json.dumps(cgroup.to_json()))) == cgroup


@pytest.mark.parametrize(
    "damage", [{"path": 1}, {"version": "1"}, {"controllers": "cpu"}, {"parents": None}, {"missing": [1]}]
)
def test_a_damaged_record_is_told(damage: dict[str, object]) -> None:
    (record,) = Cgroup((Directory("/c/a", ("cpu",), 1),)).to_json()
    with pytest.raises(TypeError):
        Cgroup.from_json([{**record, **damage}])
    with pytest.raises(KeyError):
        Cgroup.from_json([{key: value for key, value in record.items() if key not in damage}])


def test_an_empty_cgroup_that_exists_is_taken_over(cgroup: Cgroup, name: str) -> None:
    again = survey(choose(HERE, None, name))
    again.make()
    assert again == cgroup
    again.remove()
    assert not any(everywhere(cgroup))


def test_a_cgroup_with_processes_is_refused_even_below_it(cgroup: Cgroup, name: str, spawn: Spawn) -> None:
    path = cgroup.directories[0].path
    os.mkdir(f"{path}/sub")
    if "cpuset" in cgroup.directories[0].controllers:
        pytest.skip("a cpuset made by hand cannot be joined")
    tree.write(f"{path}/sub/cgroup.procs", str(spawn().pid))
    with pytest.raises(SetupError, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        survey(choose(HERE, None, name))
    with pytest.raises(SetupError, match=r"container's cgroup is not empty: 1 process\(es\) found"):
        cgroup.make()
    assert all(everywhere(cgroup))


@needs_v1
def test_a_frozen_cgroup_is_refused(cgroup: Cgroup, name: str) -> None:
    freezer = v1(cgroup, "freezer")
    tree.write(f"{freezer}/freezer.state", "FROZEN")
    with pytest.raises(SetupError, match="container's cgroup unexpectedly frozen"):
        survey(choose(HERE, None, name))


def test_a_failure_half_way_leaves_nothing(name: str) -> None:
    good = survey(choose(HERE, f"{name}/a", "id"))
    bad = Cgroup((*good.directories, Directory(f"{HERE.directories[0][1]}/{name}/absent/b", (), 1)))
    with pytest.raises(SetupError) as caught:
        bad.make()
    assert (caught.value.operation, caught.value.call, caught.value.errno) == ("MakeCgroup", "mkdir", errno.ENOENT)
    assert not any(os.path.exists(f"{own}/{name}") for _, own in HERE.directories)


@needs_v1
def test_the_device_list_reads_back(cgroup: Cgroup) -> None:
    devices = v1(cgroup, "devices")
    rules = [DeviceRule(allow=False, access="rwm"), DeviceRule(allow=True, type="b", major=7, minor=3, access="r")]
    cgroup.allow_devices(device_writes(device_list(rules)))
    assert sorted(tree.read(f"{devices}/devices.list").splitlines()) == [
        "b *:* m",
        "b 7:3 r",
        "c *:* m",
        "c 10:200 rwm",
        "c 136:* rwm",
        "c 1:3 rwm",
        "c 1:5 rwm",
        "c 1:7 rwm",
        "c 1:8 rwm",
        "c 1:9 rwm",
        "c 5:0 rwm",
        "c 5:2 rwm",
    ]
    cgroup.allow_devices(device_writes(device_list([DeviceRule(allow=True, type="a", access="rwm")])))
    assert tree.read(f"{devices}/devices.list") == "a *:* rwm\n"


@needs_v1
def test_a_denied_device_cannot_be_opened(cgroup: Cgroup, spawn: Spawn) -> None:
    path = v1(cgroup, "devices")
    cgroup.allow_devices(device_writes(device_list([])))
    script = 'echo 0 > "$1/tasks" || exit 9; head -c1 /dev/zero >&2 && ! head -c1 /dev/kmsg'
    process = spawn("sh", "-c", script, "sh", path)
    assert process.wait(10) == 0


def test_a_busy_cgroup_is_waited_for(cgroup: Cgroup, spawn: Spawn) -> None:
    process = spawn("sleep", "0.1")
    cgroup.join(process.pid)
    reaper = threading.Thread(target=process.wait)
    reaper.start()
    cgroup.remove()
    reaper.join()
    assert not any(everywhere(cgroup))


def test_a_cgroup_that_stays_busy_is_an_error_that_names_it(cgroup: Cgroup, spawn: Spawn) -> None:
    cgroup.join(spawn().pid)
    with pytest.raises(SetupError) as caught:
        cgroup.remove()
    assert (caught.value.operation, caught.value.errno) == ("RemoveCgroup", errno.EBUSY)
    assert caught.value.detail == cgroup.directories[0].path


def test_what_the_container_made_below_is_removed_too(cgroup: Cgroup) -> None:
    for directory in cgroup.directories:
        os.makedirs(f"{directory.path}/a/b")
    cgroup.remove()
    assert not any(everywhere(cgroup))


def test_without_directories_everything_is_a_quiet_nothing() -> None:
    nothing = Cgroup()
    nothing.make()
    nothing.join(os.getpid())
    nothing.allow_devices(device_writes(device_list([])))
    nothing.kill()
    nothing.remove()
    assert (nothing.processes(), nothing.open_v2(), nothing.frozen()) == ((), None, False)


def as_ordinary_user(code: str) -> str:
    """What a program prints that is the same as ours but for its rights."""
    prelude = "import os; os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
    imports = "from ocirt.cgroups import choice, files, layout\nfrom ocirt.errors import UnsupportedError\n"
    result = subprocess.run(
        [sys.executable, "-c", imports + prelude + code], env=_environment(), check=True, capture_output=True, text=True
    )
    return result.stdout


def test_an_ordinary_user_does_without_where_there_is_no_permission() -> None:
    code = "print(files.survey(choice.choose(layout.here(), None, 'demo'), rootless=True).directories)"
    assert as_ordinary_user(code) == "()\n"


def test_an_ordinary_user_who_asked_for_a_path_is_told() -> None:
    code = """
try:
    files.survey(choice.choose(layout.here(), "/demo", "demo"), rootless=True)
except UnsupportedError as error:
    print(error)
"""
    assert as_ordinary_user(code).startswith("linux.cgroupsPath: no permission to make ")


def test_an_ordinary_user_uses_what_was_delegated(name: str) -> None:
    for _, own in HERE.directories:
        os.mkdir(f"{own}/{name}")
    (_, own), *_ = HERE.directories
    for path in (f"{own}/{name}", f"{own}/{name}/cgroup.procs"):
        os.chown(path, 65534, 65534)
    code = f"""
placement = choice.choose(layout.here(), "{name}/a/b", "demo")
placement = choice.Placement(placement.directories, explicit=False)
cgroup = files.survey(placement, rootless=True)
cgroup.make()
print([directory.path for directory in cgroup.directories])
cgroup.remove()
"""
    assert as_ordinary_user(code) == f"{[f'{own}/{name}/a/b']}\n"


def test_root_without_permission_is_an_error_not_a_silence() -> None:
    nowhere = Cgroup((Directory("/proc/ocirt/demo", ("cpu",), 1, ("/proc/ocirt",), ("/proc/ocirt",)),))
    with pytest.raises(SetupError) as caught:
        nowhere.make()
    assert (caught.value.errno, caught.value.detail) == (errno.ENOENT, "/proc/ocirt")


def test_makers_and_removers_of_one_parent_do_not_trip_each_other(name: str) -> None:
    errors: list[Exception] = []

    def lives(number: int) -> None:
        try:
            for round_ in range(20):
                cgroup = survey(choose(HERE, f"{name}/{number}-{round_}", "id"))
                cgroup.make()
                cgroup.remove()
        except Exception as error:  # noqa: BLE001  # whatever it is, the test shows it
            errors.append(error)

    threads = [threading.Thread(target=lives, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
