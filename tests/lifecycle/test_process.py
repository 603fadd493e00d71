"""The process as config.json wants it (config.md, Process): directory, environment, user, limits, privileges."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ocirt import Spec
from ocirt.errors import OCIError, SetupError, SpecError, UnsupportedError
from ocirt.spec import Capabilities, IDMapping, Process, Rlimit, Root, User
from ocirt.spec.known import CAPABILITIES
from tests.support import Lab, document, linux, namespaces, process

pytestmark = pytest.mark.root

PATH = "PATH=/bin"


def output(lab: Lab, program: Process, *, writable: bool = False) -> str:
    return lab.output(document().evolve(process=program, root=Root("rootfs", readonly=not writable)))


def refused(lab: Lab, program: Process) -> OCIError:
    with pytest.raises(OCIError) as caught:
        lab.create(document().evolve(process=program))
    assert lab.remains() == []
    return caught.value


@pytest.mark.covers("process.cwd")
def test_the_working_directory_is_the_configured_one(lab: Lab) -> None:
    assert output(lab, process("pwd", cwd="/etc")) == "/etc\n"


@pytest.mark.covers("process.cwd")
def test_a_missing_working_directory_is_made(own_lab: Lab) -> None:
    assert output(own_lab, process("stat", "-c", "%n %a", "/a/b/c", cwd="/a/b/c"), writable=True) == "/a/b/c 755\n"


@pytest.mark.parametrize(("mode", "owner", "uid"), [(0o700, 0, 1000), (0o700, 1000, 1000)])
def test_it_may_be_open_to_root_alone_or_to_the_user_alone(own_lab: Lab, mode: int, owner: int, uid: int) -> None:
    directory = own_lab.rootfs / "private"
    directory.mkdir(mode=mode)
    os.chown(directory, owner, owner)
    assert output(own_lab, process("readlink", "/proc/self/cwd", cwd="/private", user=User(uid, uid))) == "/private\n"


@pytest.mark.parametrize("cwd", ["/link", "/proc/self/fd/7", "/proc/1/root"])
def test_it_cannot_lead_out_through_procfs(own_lab: Lab, cwd: str) -> None:
    """CVE-2024-21626"""
    (own_lab.rootfs / "link").symlink_to("/proc/self/fd/7")
    assert "process.cwd" in str(refused(own_lab, process("pwd", cwd=cwd)))


@pytest.mark.covers("process.env")
def test_the_environment_is_the_configured_one_and_a_home(lab: Lab) -> None:
    assert output(lab, process("env", env=(PATH, "A=1", "B="))).split() == [PATH, "A=1", "B=", "HOME=/"]


@pytest.mark.covers("process.env")
def test_the_last_of_two_variables_counts(lab: Lab) -> None:
    assert output(lab, process("env", env=("A=1", PATH, "A=2", "HOME=/h"))).split() == ["A=2", PATH, "HOME=/h"]


@pytest.mark.parametrize(
    ("passwd", "uid", "home"),
    [
        ("root:x:0:0:root:/root:/bin/sh\n", 0, "/root"),
        ("root:x:0:0::/root:\nuser:x:1000:1000:,,:/home/user:/bin/sh", 1000, "/home/user"),
        ("1000:x:0:0::/wrong:/bin/sh\n", 1000, "/"),
        ("user:x:10000:1::/wrong:\nuser:x:1000:1::/right:\n", 1000, "/right"),
        ("user:x:1000\n:::\n", 1000, "/"),
        ("user:x:1000:1::relative:\n", 1000, "/"),
        ("", 1000, "/"),
    ],
)
def test_a_missing_home_is_looked_up(own_lab: Lab, passwd: str, uid: int, home: str) -> None:
    (own_lab.rootfs / "etc/passwd").write_text(passwd)
    assert output(own_lab, process("sh", "-c", "echo $HOME", env=(PATH,), user=User(uid, uid))) == f"{home}\n"
    assert output(own_lab, process("sh", "-c", "echo $HOME", env=(PATH, "HOME="), user=User(uid, uid))) == f"{home}\n"


@pytest.mark.covers("process.args")
@pytest.mark.parametrize(
    ("args", "env", "words"),
    [
        (("no-such-program",), (PATH,), "no-such-program"),
        (("/bin/absent",), (PATH,), "No such file"),
        (("/etc",), (PATH,), "Is a directory"),
        (("/etc/plain",), (PATH,), "Permission denied"),
        (("plain",), ("PATH=/etc",), "Permission denied"),
        (("sh",), (), "No such file"),
    ],
)
def test_a_program_that_cannot_be_run_fails_create(
    own_lab: Lab, args: tuple[str, ...], env: tuple[str, ...], words: str
) -> None:
    (own_lab.rootfs / "etc/plain").touch(mode=0o644)
    error = refused(own_lab, process(*args, env=env))
    assert isinstance(error, SetupError)
    assert error.origin == "process.args[0]"
    assert words in str(error)


def test_a_program_without_a_format_fails_start(own_lab: Lab) -> None:
    (own_lab.rootfs / "bin/garbage").write_bytes(b"\0garbage")
    (own_lab.rootfs / "bin/garbage").chmod(0o755)
    container = own_lab.create(document("garbage"))
    with pytest.raises(SetupError) as caught:
        container.start()
    assert (caught.value.origin, caught.value.call) == ("process", "execve")
    assert own_lab.remains() == []


def test_a_relative_program_is_looked_up_in_the_working_directory(lab: Lab) -> None:
    assert output(lab, process("./echo", "x", cwd="/bin")) == "x\n"
    assert output(lab, process("echo", "y", cwd="/bin", env=("PATH=:/nowhere",))) == "y\n"


@pytest.mark.covers("process.user", "process.user.uid", "process.user.gid", "process.user.additionalGids")
def test_the_user_and_exactly_the_listed_groups(lab: Lab) -> None:
    who = User(uid=1000, gid=1001, additional_gids=(5, 44, 4_000_000_000))
    assert output(lab, process("sh", "-c", "id -u; id -g; id -G", user=who)) == "1000\n1001\n1001 5 44 4000000000\n"
    assert output(lab, process("id", "-G", user=User(7, 7))) == "7\n"


@pytest.mark.covers("process.user.uid", "process.user.gid", "process.user.additionalGids")
def test_an_id_outside_the_mapping_is_refused(lab: Lab) -> None:
    small = (IDMapping(0, 200000, 1000),)
    members = linux(namespaces=namespaces("mount", "user", "pid"), uid_mappings=small, gid_mappings=small)
    for who, origin in (
        (User(1000, 0), "uid"),
        (User(0, 1000), "gid"),
        (User(0, 0, None, (1, 1000)), "additionalGids[1]"),
    ):
        with pytest.raises(UnsupportedError, match="unmapped") as caught:
            lab.create(document().evolve(process=process("true", user=who), hostname=None, linux=members))
        assert caught.value.origin == f"process.user.{origin}"


@pytest.mark.covers("process.user.umask")
@pytest.mark.parametrize(("wanted", "shown"), [(None, "0022"), (0, "0000"), (0o077, "0077"), (0o777, "0777")])
def test_the_umask_is_the_configured_one(lab: Lab, wanted: int | None, shown: str) -> None:
    assert output(lab, process("sh", "-c", "umask", user=User(umask=wanted))) == f"{shown}\n"


@pytest.mark.covers("process.rlimits.**")
def test_limits_are_set_soft_and_hard(lab: Lab) -> None:
    limits = (
        Rlimit("RLIMIT_NOFILE", hard=700, soft=600),
        Rlimit("RLIMIT_CORE", hard=0, soft=0),
        Rlimit("RLIMIT_STACK", hard=2**64 - 1, soft=2**20),
    )
    shown = output(lab, process("cat", "/proc/self/limits", rlimits=limits))
    table = {line[:26].strip(): line[26:].split()[:2] for line in shown.splitlines()}
    assert table["Max open files"] == ["600", "700"]
    assert table["Max core file size"] == ["0", "0"]
    assert table["Max stack size"] == ["1048576", "unlimited"]


def in_user_namespace(program: Process) -> Spec:
    mappings = (IDMapping(0, 200000, 65536),)
    types = namespaces("mount", "user", "pid", "ipc", "network", "uts")
    return document().evolve(
        process=program, linux=linux(namespaces=types, uid_mappings=mappings, gid_mappings=mappings)
    )


def test_limits_are_set_in_a_user_namespace(lab: Lab) -> None:
    program = process("grep", "msgqueue", "/proc/self/limits", rlimits=(Rlimit("RLIMIT_MSGQUEUE", hard=70, soft=60),))
    assert lab.output(in_user_namespace(program)).split()[3:5] == ["60", "70"]


@pytest.mark.covers("process.rlimits[].hard")
def test_limits_can_be_raised_in_a_user_namespace(lab: Lab) -> None:
    """By the host: root of a user namespace may not."""
    own = resource.getrlimit(resource.RLIMIT_MSGQUEUE)[1]
    try:
        resource.prlimit(os.getpid(), resource.RLIMIT_MSGQUEUE, (own, own + 1))
    except (ValueError, PermissionError):
        pytest.skip("root has no CAP_SYS_RESOURCE here")
    wanted = (Rlimit("RLIMIT_MSGQUEUE", hard=own + 20, soft=own + 10),)
    shown = lab.output(in_user_namespace(process("grep", "msgqueue", "/proc/self/limits", rlimits=wanted)))
    assert shown.split()[3:5] == [str(own + 10), str(own + 20)]


def test_two_limits_of_one_type_are_refused(lab: Lab) -> None:
    twice = (Rlimit("RLIMIT_NOFILE", 5, 5), Rlimit("RLIMIT_NOFILE", 6, 6))
    assert isinstance(refused(lab, process("true", rlimits=twice)), SpecError)


@pytest.mark.covers("process.oomScoreAdj")
def test_the_oom_score_is_set(lab: Lab) -> None:
    assert output(lab, process("cat", "/proc/self/oom_score_adj", oom_score_adj=321)) == "321\n"


@pytest.mark.covers("process.oomScoreAdj")
def test_an_unset_oom_score_is_the_callers(lab: Lab) -> None:
    own = Path("/proc/self/oom_score_adj").read_text()
    assert output(lab, process("cat", "/proc/self/oom_score_adj")) == own


@pytest.mark.covers("process.noNewPrivileges")
@pytest.mark.parametrize("wanted", [True, False])
def test_no_new_privileges_is_as_configured(lab: Lab, wanted: bool) -> None:
    program = process("grep", "NoNewPrivs", "/proc/self/status", no_new_privileges=wanted)
    assert output(lab, program).split() == ["NoNewPrivs:", str(int(wanted))]


SETS = ("inheritable", "permitted", "effective", "bounding", "ambient")
"""In the order of /proc/PID/status."""


def after_execve(sets: Capabilities, uid: int) -> dict[str, frozenset[str]]:
    """What capabilities(7), Transformation of capabilities during execve(), makes of them for a plain file."""
    inheritable, bounding, permitted = map(frozenset, (sets.inheritable, sets.bounding, sets.permitted))
    ambient = frozenset(sets.ambient) & permitted & inheritable
    gained = (inheritable | bounding) if uid == 0 else ambient
    effective = gained
    return dict(zip(SETS, (inheritable, gained, effective, bounding, ambient), strict=True))


def bits(names: frozenset[str]) -> int:
    return sum(1 << CAPABILITIES.index(name) for name in names)


subsets = st.sets(st.sampled_from(CAPABILITIES[:20])).map(tuple)


@st.composite
def capability_sets(draw: st.DrawFn) -> Capabilities:
    """Sets that capset(2) accepts: what is effective or inheritable is permitted."""
    permitted = draw(subsets)
    effective = tuple(name for name in draw(subsets) if name in permitted)
    inheritable = tuple(name for name in draw(subsets) if name in permitted)
    ambient = draw(subsets)
    bounding = tuple({*draw(subsets), *inheritable})
    return Capabilities(bounding, effective, inheritable, permitted, ambient)


@pytest.mark.covers("process.capabilities.**")
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(sets=capability_sets(), uid=st.sampled_from([0, 1000]))
def test_the_capability_sets_are_those_that_the_manual_promises(lab: Lab, sets: Capabilities, uid: int) -> None:
    program = process("cat", "/proc/self/status", capabilities=sets, user=User(uid, uid), no_new_privileges=False)
    lines = (line.split() for line in output(lab, program).splitlines())
    shown = {words[0]: int(words[1], 16) for words in lines if words[0].startswith("Cap")}
    expected = after_execve(sets, uid)
    assert shown == {
        f"Cap{short}:": bits(expected[name])
        for short, name in zip(("Inh", "Prm", "Eff", "Bnd", "Amb"), SETS, strict=True)
    }


def test_an_ordinary_user_keeps_nothing_that_is_not_ambient(lab: Lab) -> None:
    sets = Capabilities().evolve(**dict.fromkeys(("bounding", "effective", "permitted"), ("CAP_KILL", "CAP_CHOWN")))
    program = process("grep", "Cap[PE]", "/proc/self/status", capabilities=sets, user=User(1000, 1000))
    assert set(output(lab, program).split()[1::2]) == {"0" * 16}


@pytest.mark.covers("annotations")
def test_annotations_are_in_the_state(lab: Lab) -> None:
    with lab.create(document("true").evolve(annotations={"a.b": "c", "empty": ""})) as container:
        assert container.state()["annotations"] == {"a.b": "c", "empty": ""}
        assert lab.load(container).annotations == {"a.b": "c", "empty": ""}


@pytest.mark.covers("process", "process.args")
def test_a_program_keeps_its_arguments_as_they_are(lab: Lab) -> None:
    odd = ("", " ", "ä", "a\nb", "*", "$HOME")
    with lab.start(document("sh", "-c", 'for x in "$@"; do printf "<%s>" "$x"; done', "sh", *odd)) as container:
        assert container.process is not None
        output, _ = container.process.communicate(timeout=60)
    assert output == "".join(f"<{word}>" for word in odd).encode()
    assert container.process.args[-6:] == odd
