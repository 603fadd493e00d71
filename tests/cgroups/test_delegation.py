"""Who is given the container's cgroup."""

from __future__ import annotations

import pytest

from ocirt.cgroups.delegation import owner
from ocirt.spec import IDMapping, Mount, Spec
from tests.support import document, linux, namespaces, process

VIEW = Mount("/sys/fs/cgroup", "cgroup", "cgroup", ("nosuid", "nodev"))
MAPPED = (IDMapping(0, 100_000, 1000), IDMapping(1000, 500_000, 1000))


def asking(
    *mounts: Mount, types: tuple[str, ...] = ("cgroup",), uid: int = 7, maps: tuple[IDMapping, ...] = (), **paths: str
) -> Spec:
    described = linux(namespaces=namespaces(*types, **paths), uid_mappings=maps)
    user = process("true").user.evolve(uid=uid)
    return document("true", mounts=mounts, linux=described, process=process("true", user=user))


def test_a_writable_view_of_its_own_cgroups_is_for_the_containers_user() -> None:
    assert owner(asking(VIEW)) == 7


@pytest.mark.parametrize(
    "spec",
    [
        asking(),
        asking(VIEW, types=()),
        asking(VIEW, types=(), cgroup="/proc/1/ns/cgroup"),
        asking(VIEW.evolve(options=("ro",))),
        asking(VIEW.evolve(destination="/cgroup")),
        asking(VIEW.evolve(source="other")),
        Spec(root=asking().root),
    ],
)
def test_without_that_nobody_is_given_anything(spec: Spec) -> None:
    assert owner(spec) is None


def test_the_user_is_meant_as_the_host_knows_it() -> None:
    types = ("cgroup", "user")
    assert owner(asking(VIEW, types=types, maps=MAPPED)) == 100_007
    assert owner(asking(VIEW, types=types, maps=MAPPED, uid=1001)) == 500_001
    assert owner(asking(VIEW, types=types, maps=MAPPED, uid=5000)) is None


def test_whom_a_joined_user_namespace_means_is_unknown() -> None:
    assert owner(asking(VIEW, user="/proc/1/ns/user")) is None
