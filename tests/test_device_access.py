"""``explain_device``: which rule decides about a device."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given

import ocirt
from ocirt import DeviceAccess, Spec, explain_device
from ocirt.errors import SpecError
from ocirt.spec import Device, DeviceRule, Linux, Resources
from tests.cgroups.device_rules import ACCESSES, is_allowed, lists

DENY_ALL = DeviceRule(allow=False, access="rwm")


def document(*rules: DeviceRule, devices: tuple[Device, ...] = ()) -> Spec:
    return Spec.default().evolve(linux=Linux(devices=devices, resources=Resources(devices=rules)))


FUSE = document(
    DENY_ALL,
    DeviceRule(True, "b", access="r"),
    DeviceRule(False, "b", 8, access="r"),
    DeviceRule(True, "c", 10, 229, "rw"),
    DeviceRule(True, "c", 10, access="r"),
    devices=(Device("c", "/dev/fuse", 10, 229), Device("u", "/dev/../dev/raw", 162, 0), Device("p", "/dev/fifo")),
)


@pytest.mark.parametrize(
    ("device", "access", "words"),
    [
        ("/dev/fuse", "w", "allowed by linux.resources.devices[3]"),
        ("/dev/fuse", "rw", "allowed by linux.resources.devices[4] and linux.resources.devices[3]"),
        ("/dev/fuse", "rm", "allowed by linux.resources.devices[4], allowed as a default device"),
        ("/dev/raw", "r", "denied by linux.resources.devices[0]"),
        ("/dev/null", "rwm", "allowed as a default device"),
        (Path("/dev/null"), "rw", "allowed as a default device"),
        (("c", 10, 200), "rw", "allowed as a default device"),
        (("b", 8, 1), "r", "denied by linux.resources.devices[2]"),
        (("b", 8, 1), "rw", "denied by linux.resources.devices[2] and linux.resources.devices[0]"),
        (("b", 9, 1), "r", "allowed by linux.resources.devices[1]"),
    ],
)
def test_the_rule_that_decides_is_told(device: str | Path | tuple[str, int, int], access: str, words: str) -> None:
    answer = explain_device(FUSE, device, access)
    assert (str(answer), answer.allowed) == (words, words.startswith("allowed"))


def test_facts_are_fields() -> None:
    assert explain_device(FUSE, "/dev/fuse", "w") == DeviceAccess(
        ("c", 10, 229), "w", True, ("linux.resources.devices[3]",)
    )


@pytest.mark.parametrize("without", [Spec.default().evolve(linux=None), document()])
def test_without_rules_none_allows_it(without: Spec) -> None:
    assert str(explain_device(without, ("c", 10, 229))) == "no rule allows it"
    assert str(explain_device(without, "/dev/zero")) == "allowed as a default device"


def test_a_path_that_the_container_does_not_list_is_this_hosts() -> None:
    assert explain_device(Spec.default(), "/dev/kmsg").device == ("c", 1, 11)
    with pytest.raises(FileNotFoundError):
        explain_device(Spec.default(), "/dev/absent")


@pytest.mark.parametrize("device", ["/dev/fifo", "/etc/passwd", ("p", 0, 0), ("c", -1, 3), ("c", 1, 2**32)])
def test_rules_are_about_devices_alone(device: str | tuple[str, int, int]) -> None:
    with pytest.raises(ValueError, match="device"):
        explain_device(FUSE, device)


@pytest.mark.parametrize("access", ["", "x", "rx"])
def test_an_access_is_made_of_three_letters(access: str) -> None:
    with pytest.raises(ValueError, match="made of r, w and m"):
        explain_device(FUSE, "/dev/null", access)


def test_a_wrong_rule_is_an_error_of_the_configuration() -> None:
    with pytest.raises(SpecError):
        explain_device(document(DeviceRule(True, "c", 1, 3, "x")), "/dev/null")


@given(rules=lists())
def test_the_answer_is_what_the_rules_say(rules: list[DeviceRule]) -> None:
    """Of a denied access, those rules are told that deny a part of it."""
    spec = document(*rules)
    for type_, asked, major, minor in ACCESSES:
        answer = ocirt.explain_device(spec, (type_, major, minor), asked)
        assert answer.allowed == is_allowed(rules, (type_, asked, major, minor))
        named = [origin for origin in answer.origins if origin.endswith("]")]
        assert {rules[int(origin.rpartition("[")[2][:-1])].allow for origin in named} <= {answer.allowed}
