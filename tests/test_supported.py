"""``features()`` says what a configuration may ask for here (features.md, features-linux.md), and no more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

import ocirt
from ocirt import supported
from ocirt.host import NAMESPACE_FILES, Host
from ocirt.seccomp import library
from ocirt.spec import JSON, Root, Spec
from ocirt.spec.known import CAPABILITIES
from ocirt.spec.options import KNOWN

SCHEMAS = Path(__file__).parents[2] / "shared" / "data" / "runtime-spec-schema"

Document: TypeAlias = dict[str, JSON]


@pytest.fixture
def told() -> Document:
    return ocirt.features().to_json()


@pytest.fixture
def linux(told: Document) -> Document:
    return part(told, "linux")


def part(value: JSON, *names: str) -> Document:
    for name in names:
        assert isinstance(value, dict)
        value = value[name]
    assert isinstance(value, dict)
    return value


def breaches(value: JSON, schema: JSON, file: Path, at: str = "") -> Iterator[str]:
    """As much of JSON Schema as the specification uses for its features."""
    assert isinstance(schema, dict)
    if isinstance(reference := schema.get("$ref"), str):
        name, _, pointer = reference.partition("#")
        there = file.with_name(name) if name else file
        target: JSON = json.loads(there.read_text())
        for step in filter(None, pointer.split("/")):
            target = part({"x": target}, "x")[step]
        yield from breaches(value, target, there, at)
    types = {"object": dict, "array": list, "string": str, "boolean": bool}
    kind = schema.get("type")
    if isinstance(kind, str) and not isinstance(value, types[kind]):
        yield f"{at} is no {kind}"
        return
    if isinstance(choices := schema.get("enum"), list) and value not in choices:
        yield f"{at} is {value}"
    if isinstance(pattern := schema.get("pattern"), str) and not re.search(pattern, str(value)):
        yield f"{at} is {value}"
    if isinstance(value, list) and (items := schema.get("items")) is not None:
        for index, item in enumerate(value):
            yield from breaches(item, items, file, f"{at}[{index}]")
    if isinstance(value, dict):
        yield from members(value, schema, file, at)


def members(value: Document, schema: Document, file: Path, at: str) -> Iterator[str]:
    required = schema.get("required", [])
    assert isinstance(required, list)
    yield from (f"{at}.{name} is missing" for name in required if name not in value)
    for name, member in part({"x": schema.get("properties", {})}, "x").items():
        if name in value:
            yield from breaches(value[name], member, file, f"{at}.{name}")


@pytest.mark.skipif(not SCHEMAS.is_dir(), reason="the specification's schemas are not beside us")
def test_it_is_valid_by_the_specifications_schema(told: Document) -> None:
    file = SCHEMAS / "features-schema.json"
    schema = json.loads(file.read_text())
    assert list(breaches(told, schema, file)) == []
    for good in (SCHEMAS / "test/features/good").iterdir():
        assert list(breaches(json.loads(good.read_text()), schema, file)) == []
    broken: Document = {
        **told,
        "hooks": "all",
        "linux": {**part(told, "linux"), "capabilities": ["chown"], "namespaces": ["x"]},
    }
    del broken["ociVersionMax"]
    assert len(list(breaches(broken, schema, file))) == 4


def test_versions_begin_with_the_first_and_end_with_ours(told: Document) -> None:
    assert (told["ociVersionMin"], told["ociVersionMax"]) == ("1.0.0", Spec(root=Root("x")).oci_version)


def test_hooks_are_of_all_six_kinds(told: Document) -> None:
    assert told["hooks"] == "prestart createRuntime createContainer startContainer poststart poststop".split()


def test_mount_options_are_those_that_are_honoured_and_no_parameters_of_filesystems(told: Document) -> None:
    options = told["mountOptions"]
    assert isinstance(options, list)
    assert {"ro", "rro", "bind", "rbind", "private", "noatime"} <= set(map(str, options))
    assert options == sorted(map(str, options))
    assert set(map(str, options)) <= KNOWN
    assert KNOWN.difference(map(str, options)) <= supported.SINCE.keys()


def test_namespaces_are_those_of_this_kernel(linux: Document) -> None:
    there = {type_ for type_, name in NAMESPACE_FILES.items() if Path(f"/proc/self/ns/{name}").is_symlink()}
    assert linux["namespaces"] == sorted(there)


def test_capabilities_are_those_of_this_kernel_in_the_order_of_their_numbers(linux: Document) -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    assert linux["capabilities"] == list(CAPABILITIES)[: last + 1]


def test_cgroups_are_of_the_kinds_that_this_kernel_has(linux: Document) -> None:
    kinds = [line.split()[-1] for line in Path("/proc/filesystems").read_text().splitlines()]
    assert (part(linux, "cgroup")["v1"], part(linux, "cgroup")["v2"]) == ("cgroup" in kinds, "cgroup2" in kinds)


def test_every_member_of_the_linux_part_is_there(linux: Document) -> None:
    """Absent would mean unknown; what is not there is said to be false or empty."""
    shape = {name: sorted(value) for name, value in linux.items() if isinstance(value, dict)}
    assert shape == {
        "cgroup": ["rdma", "systemd", "systemdUser", "v1", "v2"],
        "seccomp": ["actions", "archs", "enabled", "knownFlags", "operators", "supportedFlags"],
        "apparmor": ["enabled"],
        "selinux": ["enabled"],
        "intelRdt": ["enabled", "monitoring", "schemata"],
        "memoryPolicy": ["flags", "modes"],
        "mountExtensions": ["idmap"],
        "netDevices": ["enabled"],
    }
    assert part(linux, "mountExtensions", "idmap").keys() == {"enabled"}


def test_what_is_refused_is_not_said_to_be_there(linux: Document) -> None:
    assert part(linux, "mountExtensions", "idmap")["enabled"] is True
    assert part(linux, "netDevices")["enabled"] is True
    assert part(linux, "intelRdt")["enabled"] is ("resctrl" in Path("/proc/filesystems").read_text())


def test_checkpoints_are_told_of_by_the_name_that_docker_knows(told: Document) -> None:
    criu = any(Path(directory, "criu").exists() for directory in ("/usr/local/sbin", "/usr/sbin", "/usr/bin"))
    assert part(told, "annotations")["org.opencontainers.runc.checkpoint.enabled"] == ("true" if criu else "false")


def test_annotations_that_reach_the_host_are_told(told: Document) -> None:
    assert told["potentiallyUnsafeConfigAnnotations"] == [
        "org.criu.config",
        "org.systemd.property.",
        "run.oci.keep_original_groups",
        "run.oci.pidfd_receiver",
        "run.oci.systemd.subgroup",
    ]


def test_systemd_makes_cgroups_where_it_runs(linux: Document) -> None:
    assert part(linux, "cgroup")["systemd"] is Path("/run/systemd/system").is_dir()


def test_what_an_older_kernel_does_not_know_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Host, "probe", lambda: Host(kernel=(5, 13), last_capability=37, namespaces=frozenset({"mount"}))
    )
    told = ocirt.features().to_json()
    options, linux = told["mountOptions"], part(told, "linux")
    assert isinstance(options, list)
    assert not {"nosymfollow", "rnosymfollow"}.intersection(map(str, options))
    assert "MPOL_PREFERRED_MANY" not in str(linux["memoryPolicy"])
    assert linux["capabilities"] == list(CAPABILITIES)[:38]
    assert (linux["namespaces"], linux["netDevices"]) == (["mount"], {"enabled": False})


def test_seccomp_is_what_libseccomp_and_the_kernel_have(linux: Document) -> None:
    seccomp = part(linux, "seccomp")
    if not seccomp["enabled"]:
        pytest.skip("needs libseccomp (Debian: apt-get install libseccomp2)")
    names = {name: str(seccomp[name]) for name in seccomp}
    assert ("user_notif" in Path("/proc/sys/kernel/seccomp/actions_avail").read_text()) is (
        "NOTIFY" in names["actions"]
    )
    assert "'SCMP_ACT_ERRNO'" in names["actions"]
    assert "'SCMP_CMP_MASKED_EQ'" in names["operators"]
    assert "'SCMP_ARCH_X86_64'" in names["archs"]
    assert "'SECCOMP_FILTER_FLAG_SPEC_ALLOW'" in names["supportedFlags"]


def test_without_libseccomp_there_is_no_seccomp(monkeypatch: pytest.MonkeyPatch) -> None:
    library._library.cache_clear()
    monkeypatch.setattr(library, "SONAME", "no-such-library.so.0")
    try:
        assert part(ocirt.features().to_json(), "linux", "seccomp")["enabled"] is False
    finally:
        library._library.cache_clear()
