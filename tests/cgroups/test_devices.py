"""Device rules as the kernel wants them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from ocirt.cgroups import devices
from ocirt.cgroups.devices import ALLOW, DENY, ORIGIN, DeviceWrite, check_supported, device_list, means
from ocirt.errors import SpecError, UnsupportedError
from ocirt.spec.linux import DeviceRule

from . import machines

DEFAULTS = tuple(rule.text for rule in devices.DEFAULTS)
DENY_ALL = DeviceRule(allow=False, access="rwm")
ALLOW_ALL = DeviceRule(allow=True, type="a", access="rwm")


def char(major: int | None, minor: int | None, access: str = "rwm", *, allow: bool = True) -> DeviceRule:
    return DeviceRule(allow=allow, type="c", major=major, minor=minor, access=access)


def device_writes(rules: Sequence[DeviceRule]) -> tuple[DeviceWrite, ...]:
    return devices.device_writes(device_list(rules))


def test_runcs_default_denies_all_and_allows_what_every_container_has() -> None:
    assert device_writes([DENY_ALL]) == (
        DeviceWrite(DENY, ("a",), "linux.resources.devices[0]"),
        DeviceWrite(ALLOW, DEFAULTS, "linux.resources.devices"),
    )


def test_the_defaults_are_runcs() -> None:
    assert sorted(DEFAULTS) == [
        "b *:* m",
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


def test_no_rules_deny_as_well() -> None:
    assert device_writes([]) == (DeviceWrite(DENY, ("a",), ORIGIN), DeviceWrite(ALLOW, DEFAULTS, ORIGIN))


@pytest.mark.covers("linux.resources.devices.**")
def test_rules_keep_their_order_and_come_before_the_defaults() -> None:
    writes = device_writes([DENY_ALL, char(10, 229, "rw"), char(4, None, "r"), char(10, 229, "w", allow=False)])
    assert [(write.file, write.rules) for write in writes] == [
        (DENY, ("a",)),
        (ALLOW, ("c 10:229 rw",)),
        (ALLOW, ("c 4:* r",)),
        (DENY, ("c 10:229 w",)),
        (ALLOW, DEFAULTS),
    ]
    assert writes[1].origin == "linux.resources.devices[1]"


def test_minus_one_is_a_wildcard() -> None:
    assert device_writes([char(-1, -1, "r")])[1].rules == ("c *:* r",)


def test_what_precedes_a_rule_for_all_has_no_effect_and_is_left_out() -> None:
    assert device_writes([char(1, 1), DENY_ALL]) == (
        DeviceWrite(DENY, ("a",), "linux.resources.devices[1]"),
        DeviceWrite(ALLOW, DEFAULTS, ORIGIN),
    )


def test_when_all_is_allowed_the_defaults_say_nothing_new() -> None:
    assert device_writes([DENY_ALL, ALLOW_ALL]) == (DeviceWrite(ALLOW, ("a",), "linux.resources.devices[1]"),)


def test_a_default_device_cannot_be_denied() -> None:
    assert device_writes([ALLOW_ALL, char(1, 3, allow=False)]) == device_writes([ALLOW_ALL])


def test_a_rule_that_later_ones_override_is_left_out() -> None:
    rules = [DENY_ALL, char(10, 229, "rw", allow=False), char(10, None, "r"), char(None, 229, "w"), char(10, 3, "m")]
    assert [rule.origin for rule in device_list(rules).rules[:3]] == [f"{ORIGIN}[2]", f"{ORIGIN}[3]", ORIGIN]


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        (DeviceRule(allow=True, type="x", access="r"), "linux.resources.devices[0].type"),
        (DeviceRule(allow=True, type="p", access="r"), "linux.resources.devices[0].type"),
        (char(1, 3, ""), "linux.resources.devices[0].access"),
        (DeviceRule(allow=True, type="c"), "linux.resources.devices[0].access"),
        (char(1, 3, "rx"), "linux.resources.devices[0].access"),
        (char(1, 3, "r\nw"), "linux.resources.devices[0].access"),
        (char(-2, 3), "linux.resources.devices[0].major"),
        (char(1, 2**32 - 1), "linux.resources.devices[0].minor"),
    ],
)
def test_a_rule_the_kernel_would_refuse_is_refused_by_its_field(rule: DeviceRule, path: str) -> None:
    with pytest.raises(SpecError) as caught:
        device_writes([rule])
    assert [problem.path for problem in caught.value.problems] == [path]


@pytest.mark.parametrize("wildcard", [char(None, None), char(10, None), char(None, 229)])
def test_a_hole_in_a_wildcard_is_refused_since_version_1_would_ignore_it(wildcard: DeviceRule) -> None:
    with pytest.raises(UnsupportedError) as caught:
        device_writes([DENY_ALL, wildcard, char(10, 229, "w", allow=False)])
    assert caught.value.origin == "linux.resources.devices[2]"


def test_what_a_wildcard_does_not_grant_is_no_hole_in_it() -> None:
    assert device_writes([DENY_ALL, char(10, None, "m"), char(10, 229, "rw", allow=False)])
    assert device_writes([DENY_ALL, char(10, None), char(10, None, allow=False)])


def test_a_narrower_exception_is_removed_by_its_own_name() -> None:
    """What the kernel makes of ``c 10:* w`` alone is nothing, since there is no such exception."""
    writes = device_writes([DENY_ALL, char(10, 229, "rw"), char(10, None, "w", allow=False)])
    assert writes[2] == DeviceWrite(DENY, ("c 10:* w", "c 10:229 w"), "linux.resources.devices[2]")


def test_what_one_rule_lets_be_read_and_another_be_written_is_opened_for_both() -> None:
    """The kernel looks for one exception that allows all of an access."""
    writes = device_writes([DENY_ALL, char(10, None, "r"), char(None, 229, "w")])
    assert writes[-1] == DeviceWrite(ALLOW, ("c 10:229 rw",), ORIGIN)


def test_the_controller_of_version_1_goes_before_a_program() -> None:
    assert means(machines.HYBRID.layout, rootless=False) == "files"
    assert means(machines.V2.layout, rootless=False) == "program"
    assert means(machines.V1.layout, rootless=False) == "nothing"  # whose devices controller is not mounted
    assert means(machines.V2.layout, rootless=True) == "nothing"


def test_a_program_does_where_version_1_lacks_the_controller() -> None:
    without = machines.HYBRID_MOUNTS.replace("rw,devices", "rw,pids")
    assert means(machines.machine(without, machines.HYBRID_OWN).layout, rootless=False) == "program"


def test_a_list_that_nothing_would_enforce_is_refused() -> None:
    check_supported(machines.HYBRID.layout, [DENY_ALL], rootless=False)
    check_supported(machines.V2.layout, [DENY_ALL], rootless=False)
    check_supported(machines.V1.layout, [], rootless=False)
    check_supported(machines.V1.layout, [DENY_ALL], rootless=True)
    with pytest.raises(UnsupportedError, match="is mounted"):
        check_supported(machines.V1.layout, [DENY_ALL], rootless=False)
