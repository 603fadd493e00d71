"""Did you mean."""

from __future__ import annotations

import pytest

from ocirt.spec.known import CAPABILITIES, NAMESPACES, did_you_mean, nearest


def test_capabilities_stand_at_their_numbers() -> None:
    """linux/capability.h."""
    assert len(CAPABILITIES) == 41
    assert CAPABILITIES[21] == "CAP_SYS_ADMIN"
    assert CAPABILITIES[40] == "CAP_CHECKPOINT_RESTORE"


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("netwrok", "network"),
        ("network", "network"),
        ("Network", "network"),
        ("net", "network"),
        ("mnt", "mount"),
        ("usr", "user"),
    ],
)
def test_a_misspelt_name_is_asked_about(name: str, meant: str) -> None:
    assert did_you_mean(name, NAMESPACES) == f"; did you mean {meant}?"


@pytest.mark.parametrize("name", ["SYS_ADMIN", "sys_admin", "cap_sys_admin", "CAP_SYS_ADMN", "CAP_SYSADMIN"])
def test_a_capability_is_found_by_a_part_of_its_name(name: str) -> None:
    assert did_you_mean(name, CAPABILITIES) == "; did you mean CAP_SYS_ADMIN?"


@pytest.mark.parametrize("name", ["", "x", "something else"])
def test_a_strange_name_is_not_asked_about(name: str) -> None:
    assert did_you_mean(name, NAMESPACES) == ""


@pytest.mark.parametrize(
    ("name", "found"),
    [("noexce", "noexec"), ("noexe", "noexec"), ("noexeec", "noexec"), ("noexed", "noexec"), ("noxece", None)],
)
def test_one_letter_more_less_other_or_swapped(name: str, found: str | None) -> None:
    assert nearest(name, ["nosuid", "noexec"], reach=1) == found
