"""Device programs, on a machine of our own: they do what the rules say, and so do version 1's files."""

from __future__ import annotations

import pytest
from hypothesis import assume, given

from ocirt.cgroups import bpf
from ocirt.cgroups.devices import device_list, device_writes
from ocirt.errors import UnsupportedError
from ocirt.spec.linux import DeviceRule

from .device_rules import ACCESSES, Kernel, allowed, is_allowed, lists


@given(rules=lists())
def test_a_program_does_what_the_rules_say(rules: list[DeviceRule]) -> None:
    code = bpf.assemble(device_list(rules)).code
    assert [access for access in ACCESSES if bpf.run(code, *access)[0]] == allowed(rules, ACCESSES)


@given(rules=lists())
def test_version_1_does_what_the_rules_say_or_refuses_them(rules: list[DeviceRule]) -> None:
    """A node is made or opened, never both at once: the kernel asks for ``m`` alone."""
    accesses = [access for access in ACCESSES if access[1] in ("r", "w", "rw", "m")]
    try:
        writes = device_writes(device_list(rules))
    except UnsupportedError:
        assume(False)
    kernel = Kernel().take(writes)
    assert [access for access in accesses if kernel.permits(access)] == allowed(rules, accesses)


@given(rules=lists())
def test_the_way_out_names_the_rule_that_decides(rules: list[DeviceRule]) -> None:
    """It is the one that would change the verdict if it were turned around; none is, where a default decides."""
    program = bpf.assemble(device_list(rules))
    assume(not program.everything)  # then it is the rule for all devices, without a look at others
    for access in ACCESSES:
        if len(access[1]) > 1:
            continue
        verdict, place = bpf.run(program.code, *access)
        deciding = [
            f"linux.resources.devices[{index}]"
            for index, rule in enumerate(rules)
            if is_allowed([*rules[:index], rule.evolve(allow=not rule.allow), *rules[index + 1 :]], access) != verdict
        ]
        assert [program.exits[place]] == (deciding or ["linux.resources.devices"])


@given(rules=lists())
def test_a_program_that_allows_everything_says_so(rules: list[DeviceRule]) -> None:
    if bpf.assemble(device_list(rules)).everything:
        assert allowed(rules, ACCESSES) == list(ACCESSES)


def test_rules_without_effect_take_no_instructions() -> None:
    """Of many about the same devices, the last one alone is in the program."""
    rules = [DeviceRule(number % 2 == 0, "b", number % 7, None, "rw") for number in range(700)]
    assert len(bpf.assemble(device_list(rules)).code) == len(bpf.assemble(device_list(rules[-7:])).code)


def test_a_program_that_is_too_long_is_refused_by_the_list() -> None:
    rules = [DeviceRule(True, "c", number, number, "r") for number in range(300, 300 + 5000)]
    with pytest.raises(UnsupportedError, match="instructions") as caught:
        bpf.assemble(device_list(rules))
    assert caught.value.origin == "linux.resources.devices"


def test_a_list_is_assembled_once() -> None:
    rules = [DeviceRule(True, "c", 10, 229, "rw")]
    assert bpf.assemble(device_list(rules)) is bpf.assemble(device_list(list(rules)))


def test_an_instruction_that_device_programs_do_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="133"):
        bpf.run(bpf.INSTRUCTION.pack(0x85, 0, 0, 1), "c", "r", 1, 3)  # a call of the kernel
