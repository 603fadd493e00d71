"""Hooks of all six kinds: when they run, where, with what, and what their failure means (config.md, Hooks)."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from ocirt import Spec
from ocirt.errors import HookError, OCIError, SetupError
from ocirt.spec import Hook, Hooks, IDMapping, Mount, Root, User
from tests.support import SECONDS, Lab, document, linux, namespaces, process, said, shell

pytestmark = pytest.mark.root

HOST_KINDS = ("prestart", "create_runtime", "create_container", "poststart", "poststop")
KINDS = ("prestart", "create_runtime", "create_container", "start_container", "poststart", "poststop")
NAMES = dict(
    zip(KINDS, "prestart createRuntime createContainer startContainer poststart poststop".split(), strict=True)
)


class Recorder:
    """A hook program of the host's, and what its runs have left."""

    def __init__(self, directory: Path) -> None:
        self.log = directory / "hooks.log"
        self.log.touch()
        self.log.chmod(0o666)

    def hook(self, name: str, script: str = "true", **members: object) -> Hook:
        """Notes its name and its standard input, then does more."""
        body = f"{{ echo {name}; cat; echo; }} >> {self.log}; {script}"
        return Hook("/bin/sh", ("sh", "-c", body)).evolve(**members)

    @property
    def runs(self) -> list[tuple[str, dict[str, object]]]:
        lines = [line for line in self.log.read_text().splitlines() if line]
        return [(name, json.loads(state)) for name, state in zip(lines[::2], lines[1::2], strict=True)]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.runs]


@pytest.fixture
def recorder(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path)


@pytest.mark.covers("hooks", "hooks.*", "hooks.*[].path")
def test_each_kind_runs_at_its_point_with_the_state_on_standard_input(own_lab: Lab, recorder: Recorder) -> None:
    """What startContainer hooks write is not the program's output, so that one writes to the container's files."""
    inside = own_lab.rootfs / "tmp/hook"
    hooks = Hooks(start_container=(Hook("/bin/sh", ("sh", "-c", "cat > /tmp/hook")),)).evolve(
        **{kind: (recorder.hook(NAMES[kind]),) for kind in HOST_KINDS},
    )
    spec = shell("cat /tmp/hook > /tmp/seen").evolve(hooks=hooks, annotations={"a": "b"}, root=Root("rootfs"))
    with own_lab.create(spec) as container:
        assert recorder.names == ["prestart", "createRuntime", "createContainer"]
        assert not inside.exists()
        pid = container.pid
        container.start()
        assert recorder.names == ["prestart", "createRuntime", "createContainer", "poststart"]
        container.wait(SECONDS)
        assert (own_lab.rootfs / "tmp/seen").read_text() == inside.read_text()
        assert "poststop" not in recorder.names
        container.delete()
        assert recorder.names[-1] == "poststop"
    states = {**dict(recorder.runs), "startContainer": json.loads(inside.read_text())}
    common = {"ociVersion": "1.3.0", "id": container.id, "bundle": container.bundle, "annotations": {"a": "b"}}
    assert states == {
        "prestart": {**common, "status": "creating", "pid": pid},
        "createRuntime": {**common, "status": "creating", "pid": pid},
        "createContainer": {**common, "status": "creating", "pid": 1},
        "startContainer": {**common, "status": "created", "pid": 1},
        "poststart": {**common, "status": "running", "pid": pid},
        "poststop": {**common, "status": "stopped", "pid": 0},
    }


@pytest.mark.covers("hooks.*")
@pytest.mark.parametrize("kind", HOST_KINDS)
def test_hooks_of_a_kind_run_in_their_order(lab: Lab, recorder: Recorder, kind: str) -> None:
    hooks = Hooks().evolve(**{kind: tuple(recorder.hook(str(number)) for number in range(3))})
    with lab.start(document("true").evolve(hooks=hooks)):
        pass
    assert recorder.names == ["0", "1", "2"]


def where(spec: Spec, recorder: Recorder, kind: str) -> Spec:
    """A hook that notes its namespaces and its directory."""
    note = "readlink /proc/self/ns/mnt; readlink /proc/self/ns/net; readlink /proc/self/ns/pid; stat -c %d:%i ."
    hook = Hook("/bin/sh", ("sh", "-c", f"{{ {note}; }} >> {recorder.log}"))
    return spec.evolve(hooks=Hooks().evolve(**{kind: (hook,)}))


@pytest.mark.parametrize("kind", ["prestart", "create_runtime", "poststart", "poststop"])
def test_runtime_hooks_run_in_the_callers_namespaces(lab: Lab, recorder: Recorder, kind: str) -> None:
    with lab.start(where(document("true"), recorder, kind)):
        pass
    names = recorder.log.read_text().split()[:3]
    assert names == [os.readlink(f"/proc/self/ns/{name}") for name in ("mnt", "net", "pid")]


def test_create_container_hooks_run_in_the_containers_namespaces_on_the_hosts_files(
    lab: Lab, recorder: Recorder
) -> None:
    with lab.create(where(document("true"), recorder, "create_container")) as container:
        names = recorder.log.read_text().split()
        assert names[:2] == [os.readlink(f"/proc/{container.pid}/ns/{name}") for name in ("mnt", "net")]
        rootfs = lab.rootfs.stat()
        assert names[3] == f"{rootfs.st_dev}:{rootfs.st_ino}"


def test_create_runtime_hooks_find_the_namespaces_and_the_cgroups_made(lab: Lab, recorder: Recorder) -> None:
    """They configure networks and devices for a container that is not let go yet."""
    find = "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')"
    script = f"{find}; head -n 1 /proc/$pid/cgroup; readlink /proc/$pid/ns/net"
    hook = Hook("/bin/sh", ("sh", "-c", f"{{ {script}; }} > {recorder.log}"))
    with lab.create(document("true").evolve(hooks=Hooks(create_runtime=(hook,)))) as container:
        cgroup, network = recorder.log.read_text().split()
        assert cgroup.endswith(f"/{container.id}")
        assert network == os.readlink(f"/proc/{container.pid}/ns/net")


@pytest.mark.parametrize("kind", HOST_KINDS[:3])
def test_they_run_once_without_a_mount_namespace_as_well(lab: Lab, recorder: Recorder, kind: str) -> None:
    spec = document("true").evolve(
        mounts=(),
        root=document().root.evolve(readonly=False),
        linux=linux(namespaces=namespaces("pid", "uts"), masked_paths=(), readonly_paths=()),
        hooks=Hooks().evolve(**{kind: (recorder.hook("once"),)}),
    )
    with lab.start(spec):
        assert recorder.names == ["once"]


def test_they_run_with_a_user_namespace_as_well(lab: Lab, recorder: Recorder) -> None:
    mappings = (IDMapping(0, 200000, 65536),)
    types = namespaces("pid", "network", "ipc", "uts", "mount", "user")
    members = linux(namespaces=types, uid_mappings=mappings, gid_mappings=mappings)
    hooks = Hooks(prestart=(recorder.hook("prestart"),), poststop=(recorder.hook("poststop"),))
    with lab.start(document("true").evolve(linux=members, hooks=hooks)):
        pass
    assert recorder.names == ["prestart", "poststop"]


@pytest.mark.covers("hooks.prestart[].env")
def test_a_hook_without_an_environment_has_the_callers(
    lab: Lab, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OF_THE_CALLER", "yes")
    hook = Hook("/bin/sh", ("sh", "-c", f"echo $OF_THE_CALLER >> {recorder.log}"))
    lab.create(document("true").evolve(hooks=Hooks(prestart=(hook, hook.evolve(env=("A=b",)))))).delete()
    assert recorder.log.read_text() == "yes\n\n"


@pytest.mark.covers("hooks.startContainer[].env")
def test_a_start_container_hook_has_the_containers_environment(own_lab: Lab) -> None:
    hook = Hook("/bin/sh", ("sh", "-c", "echo $TERM $X >> /tmp/hook"))
    hooks = Hooks(start_container=(hook, hook.evolve(env=("X=own",))))
    assert own_lab.output(document("cat", "/tmp/hook").evolve(root=Root("rootfs"), hooks=hooks)) == "xterm\nown\n"


@pytest.mark.covers("hooks.prestart[].args")
def test_the_arguments_are_passed_as_they_are(lab: Lab, recorder: Recorder) -> None:
    hook = Hook("/bin/sh", ("other-name", "-c", f'echo "$0" "$1" >> {recorder.log}', "zero", "a  b"))
    lab.create(document("true").evolve(hooks=Hooks(prestart=(hook,)))).delete()
    assert recorder.log.read_text() == "zero a  b\n"


@pytest.mark.parametrize("kind", HOST_KINDS[:4])
def test_a_hook_need_not_read_its_input(lab: Lab, kind: str) -> None:
    hooks = Hooks().evolve(**{kind: (Hook("/bin/true"),)})
    with lab.start(document("true").evolve(hooks=hooks, annotations={"big": "x" * 200_000})):
        pass


@pytest.mark.parametrize("kind", HOST_KINDS[:3])
def test_a_failing_hook_fails_create_and_poststop_still_runs(lab: Lab, recorder: Recorder, kind: str) -> None:
    failing = recorder.hook("bad", "echo its last words; exit 7")
    hooks = (
        Hooks()
        .evolve(**{kind: (recorder.hook("good"), failing, recorder.hook("never"))})
        .evolve(poststop=(recorder.hook("poststop"),))
    )
    with pytest.raises(HookError) as caught:
        lab.create(document("true").evolve(hooks=hooks))
    assert (caught.value.hook, caught.value.path, caught.value.returncode) == (f"hooks.{NAMES[kind]}[1]", "/bin/sh", 7)
    assert caught.value.output == "its last words\n"
    assert recorder.names == ["good", "bad", "poststop"]
    assert lab.remains() == []


def test_a_failing_start_container_hook_fails_start_and_the_program_never_runs(lab: Lab, recorder: Recorder) -> None:
    hooks = Hooks(
        start_container=(Hook("/bin/sh", ("sh", "-c", "echo words; exit 3")),), poststop=(recorder.hook("poststop"),)
    )
    container = lab.create(shell("echo program").evolve(hooks=hooks), stdout=-1)
    with pytest.raises(HookError) as caught:
        container.start()
    assert (caught.value.hook, caught.value.returncode) == ("hooks.startContainer[0]", 3)
    assert said(container) == ""
    assert recorder.names == ["poststop"]
    assert lab.remains() == []


def test_a_failing_poststart_hook_ends_the_container(lab: Lab, recorder: Recorder) -> None:
    """config.md 1.3.0: the error stops it; earlier versions said to go on."""
    hooks = Hooks(poststart=(Hook("/bin/false"),), poststop=(recorder.hook("poststop"),))
    container = lab.create(document("sleep", "600").evolve(hooks=hooks))
    with pytest.raises(HookError, match=r"hooks\.poststart\[0\]: /bin/false: exited with 1"):
        container.start()
    assert recorder.names == ["poststop"]
    assert lab.remains() == []


@pytest.mark.covers("hooks.poststop")
def test_a_failing_poststop_hook_is_no_error_and_the_others_run(lab: Lab, recorder: Recorder) -> None:
    hooks = Hooks(poststop=(Hook("/bin/false"), Hook("/no/such/program"), recorder.hook("last")))
    lab.create(document("true").evolve(hooks=hooks)).delete()
    assert recorder.names == ["last"]
    assert lab.remains() == []


@pytest.mark.covers(
    "hooks.prestart[].timeout",
    "hooks.createRuntime[].timeout",
    "hooks.createContainer[].timeout",
    "hooks.startContainer[].timeout",
    "hooks.poststart[].timeout",
)
@pytest.mark.parametrize("kind", KINDS[:5])
def test_a_hook_that_takes_too_long_is_killed(lab: Lab, kind: str) -> None:
    hooks = Hooks().evolve(**{kind: (Hook("/bin/sleep", ("sleep", "600"), timeout=1),)})
    began = time.monotonic()
    with pytest.raises(HookError, match=r"hook ran past specified timeout of 1\.0s") as caught:
        lab.start(document("true").evolve(hooks=hooks))
    assert caught.value.hook == f"hooks.{NAMES[kind]}[0]"
    assert time.monotonic() - began < SECONDS
    assert lab.remains() == []


@pytest.mark.covers("hooks.*[].path")
@pytest.mark.parametrize("kind", KINDS[:5])
def test_a_hook_that_is_not_there_is_an_error_and_poststop_still_runs(lab: Lab, recorder: Recorder, kind: str) -> None:
    hooks = Hooks(poststop=(recorder.hook("poststop"),)).evolve(**{kind: (Hook("/no/such/hook"),)})
    with pytest.raises(HookError) as caught:
        lab.start(document("true").evolve(hooks=hooks))
    assert (caught.value.hook, caught.value.path) == (f"hooks.{NAMES[kind]}[0]", "/no/such/hook")
    assert caught.value.reason == "cannot be run: No such file or directory"
    assert recorder.names == ["poststop"]
    assert lab.remains() == []


@pytest.mark.parametrize("kind", KINDS[:5])
def test_a_hook_that_dies_by_a_signal_tells_which(lab: Lab, kind: str) -> None:
    hooks = Hooks().evolve(**{kind: (Hook("/bin/sh", ("sh", "-c", "kill -SEGV $$")),)})
    with pytest.raises(HookError, match="was killed by signal 11") as caught:
        lab.start(document("true").evolve(hooks=hooks))
    assert (caught.value.hook, caught.value.returncode) == (f"hooks.{NAMES[kind]}[0]", -11)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_a_creation_that_fails_after_a_hook_ends_with_poststop(lab: Lab, recorder: Recorder, kind: str) -> None:
    hooks = Hooks(poststop=(recorder.hook("poststop"),)).evolve(**{kind: (recorder.hook("good"),)})
    with pytest.raises(SetupError, match="no-such-program"):
        lab.create(document("no-such-program").evolve(hooks=hooks))
    assert recorder.names == ["good", "poststop"]
    assert lab.remains() == []


def test_a_creation_that_fails_before_any_hook_runs_none(lab: Lab, recorder: Recorder) -> None:
    hooks = Hooks().evolve(**{kind: (recorder.hook(kind),) for kind in HOST_KINDS})
    mount = Mount("/x", None, "/no/such/source", ("bind",))
    with pytest.raises(SetupError):
        lab.create(document("true", mounts=(mount,)).evolve(hooks=hooks))
    assert recorder.names == []


def test_all_prestart_hooks_come_before_all_create_runtime_hooks(lab: Lab, recorder: Recorder) -> None:
    hooks = Hooks(
        create_container=(recorder.hook("4"),),
        create_runtime=(recorder.hook("2"), recorder.hook("3")),
        prestart=(recorder.hook("0"), recorder.hook("1")),
    )
    with lab.create(document("true").evolve(hooks=hooks)):
        assert recorder.names == ["0", "1", "2", "3", "4"]


PID = "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p')"


@pytest.mark.parametrize("kind", HOST_KINDS[:2])
def test_runtime_hooks_find_the_mounts_made_and_the_hosts_root_in_place(
    lab: Lab, recorder: Recorder, kind: str
) -> None:
    """They run before pivot_root(2), so what they mount for the container they can still take from the host."""
    mark = "size=4356k"
    script = f"{PID}; grep -c {mark} /proc/$pid/mountinfo; stat -L -c %d:%i /proc/$pid/root/etc/passwd"
    hooks = Hooks().evolve(**{kind: (Hook("/bin/sh", ("sh", "-c", f"{{ {script}; }} > {recorder.log}")),)})
    spec = document("true", mounts=(*document().mounts, Mount("/tmp", "tmpfs", None, (mark,))))
    with lab.create(spec.evolve(hooks=hooks)):
        host = os.stat("/etc/passwd")
        assert recorder.log.read_text().split() == ["1", f"{host.st_dev}:{host.st_ino}"]


def test_poststart_hooks_find_the_program_running(lab: Lab, recorder: Recorder) -> None:
    script = f"{PID}; tr '\\0' ' ' < /proc/$pid/cmdline > {recorder.log}"
    hooks = Hooks(poststart=(Hook("/bin/sh", ("sh", "-c", script)),))
    with lab.start(document("sleep", "600").evolve(hooks=hooks)):
        assert recorder.log.read_text() == "sleep 600 "


def test_poststop_hooks_find_the_container_gone(lab: Lab, recorder: Recorder) -> None:
    script = f'ls {lab.root} > {recorder.log}; find /sys/fs/cgroup -name "$ID" >> {recorder.log}'
    container_id = lab.new_id()
    hook = Hook("/bin/sh", ("sh", "-c", script), env=(f"ID={container_id}", f"PATH={os.environ['PATH']}"))
    with lab.create(document("true").evolve(hooks=Hooks(poststop=(hook,))), id=container_id):
        pass
    assert recorder.log.read_text() == ""


@pytest.mark.parametrize("hook", [Hook("relative"), Hook("/bin/true", timeout=0), Hook("/bin/true", env=("NOEQUALS",))])
def test_a_hook_against_the_rules_is_refused(lab: Lab, hook: Hook) -> None:
    with pytest.raises(OCIError, match=r"hooks\.prestart\[0\]"):
        lab.create(document("true").evolve(hooks=Hooks(prestart=(hook,))))


def test_a_hook_sees_its_three_streams_only(lab: Lab, recorder: Recorder) -> None:
    secret = os.open("/etc/hostname", os.O_RDONLY)
    os.set_inheritable(secret, True)
    listing = Hook("/bin/sh", ("sh", "-c", f"exec >> {recorder.log}; exec ls /proc/self/fd"))
    try:
        hooks = Hooks().evolve(**dict.fromkeys(HOST_KINDS, (listing,)))
        with lab.start(document("true").evolve(hooks=hooks)):
            pass
    finally:
        os.close(secret)
    directory = "3"  # that ls itself reads
    assert recorder.log.read_text().split() == ["0", "1", "2", directory] * 5


def test_what_a_create_container_hook_mounts_is_seen_inside_alone(own_lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("by a hook\n")
    target = own_lab.rootfs / "etc/given"
    target.touch()
    hook = Hook("/bin/mount", ("mount", "--bind", str(tmp_path / "given"), "etc/given"))
    spec = document("cat", "/etc/given").evolve(hooks=Hooks(create_container=(hook,)))
    assert own_lab.output(spec) == "by a hook\n"
    assert target.read_text() == ""


def test_a_start_container_hook_sees_its_three_streams_only(own_lab: Lab) -> None:
    hook = Hook("/bin/sh", ("sh", "-c", "ls /proc/self/fd > /tmp/hook"))
    spec = document("cat", "/tmp/hook").evolve(root=Root("rootfs"), hooks=Hooks(start_container=(hook,)))
    assert own_lab.output(spec).split() == ["0", "1", "2", "3"]


def test_a_start_container_hook_runs_as_the_user_in_the_working_directory(own_lab: Lab) -> None:
    """Just before execve(2): everything that the program will be, it is already."""
    hook = Hook("/bin/sh", ("sh", "-c", "{ id -u; pwd; grep Cap /proc/self/status; } > /tmp/hook"))
    program = process("sh", "-c", "cat /tmp/hook; id -u; pwd; grep Cap /proc/self/status", cwd="/tmp", user=User(7, 7))
    spec = document(process=program, root=Root("rootfs"), hooks=Hooks(start_container=(hook,)))
    lines = own_lab.output(spec).splitlines()
    assert lines[:2] == ["7", "/tmp"]
    assert lines[: len(lines) // 2] == lines[len(lines) // 2 :]
