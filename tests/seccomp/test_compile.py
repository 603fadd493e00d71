"""A filter says what the profile says: compared call by call, on a machine of our own."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ocirt.errors import UnsupportedError
from ocirt.seccomp import library, notifies, profile_of, verdict
from ocirt.seccomp.bpf import INSTRUCTION, UNKNOWN, X32_BIT, X86_64
from ocirt.seccomp.compile import compile_profile
from ocirt.spec import Linux, Seccomp, Syscall, SyscallArg
from ocirt.spec.known import SECCOMP_ACTIONS, SECCOMP_OPERATORS
from tests.seccomp.machine import run
from tests.seccomp.profiles import ARCHITECTURES, LISTED, listed

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="calls have other numbers elsewhere")

I386 = 0x40000003
KILL = 0
NUMBERS = {"read": 0, "ioctl": 16, "mkdir": 83, "setns": 308, "clone3": 435}
"""syscall_64.tbl"""

WIDE = (0, 1, 2, 0xFFFFFFFF, 2**32, 2**32 + 1, 2**63, 2**64 - 1)

HOLDS: Mapping[str, Callable[[int, int, int | None], bool]] = {
    "SCMP_CMP_NE": lambda given, value, _: given != value,
    "SCMP_CMP_LT": lambda given, value, _: given < value,
    "SCMP_CMP_LE": lambda given, value, _: given <= value,
    "SCMP_CMP_EQ": lambda given, value, _: given == value,
    "SCMP_CMP_GE": lambda given, value, _: given >= value,
    "SCMP_CMP_GT": lambda given, value, _: given > value,
    "SCMP_CMP_MASKED_EQ": lambda given, mask, wanted: given & mask == wanted,
}


def conditions() -> st.SearchStrategy[SyscallArg]:
    wide = st.sampled_from(WIDE)
    plain = st.sampled_from([op for op in SECCOMP_OPERATORS if op != "SCMP_CMP_MASKED_EQ"])
    masked = st.builds(
        lambda index, mask, value: SyscallArg(index, mask, value & mask, op="SCMP_CMP_MASKED_EQ"),
        st.integers(0, 5),
        wide,
        wide,
    )
    return masked | st.builds(SyscallArg, st.integers(0, 5), wide, op=plain)


@st.composite
def profiles(draw: st.DrawFn) -> Seccomp:
    """At most one rule for a call: what several mean is libseccomp's to say."""
    names = draw(st.lists(st.sampled_from(tuple(NUMBERS)), unique=True))
    actions = st.sampled_from(SECCOMP_ACTIONS)
    numbers = st.none() | st.sampled_from((0, 1, 4094)) | st.integers(0, 4094)
    rules = []
    for name in names:
        action = draw(actions)
        number = draw(numbers) if action in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else None
        rules.append(Syscall((name,), action, number, tuple(draw(st.lists(conditions(), max_size=3)))))
    default = draw(st.sampled_from([action for action in SECCOMP_ACTIONS if action != "SCMP_ACT_NOTIFY"]))
    error = draw(numbers) if default in ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE") else None
    made = Seccomp(default, error, syscalls=rules)
    assume(not any(is_refused(rule.args) for rule in made.syscalls))
    return made


def is_refused(conditions: Sequence[SyscallArg]) -> bool:
    """What libseccomp gets wrong: bounds of one argument in different halves, one of them an upper bound."""
    bounds = [one for one in conditions if one.op[9:] in ("LT", "LE", "GE", "GT")]
    pairs = [(one, other) for one, other in combinations(bounds, 2) if one.index == other.index]
    return any(
        one.value >> 32 != other.value >> 32 and {one.op[9:], other.op[9:]} & {"LT", "LE"} for one, other in pairs
    )


def meant(profile: Seccomp, name: str, arguments: Sequence[int]) -> int:
    """What the profile says, from the words of config-linux.md and of runc."""
    for rule in profile.syscalls:
        if name in rule.names and applies(rule.args, arguments):
            return verdict(rule.action, rule.errno_ret)
    return verdict(profile.default_action, profile.default_errno_ret)


def applies(wanted: Sequence[SyscallArg], arguments: Sequence[int]) -> bool:
    """All have to hold; but if two are about one argument, any (runc)."""
    held = [HOLDS[one.op](arguments[one.index], one.value, one.value_two) for one in wanted]
    doubled = len({one.index for one in wanted}) < len(wanted)
    return any(held) if doubled else all(held)


def listed_highest(profile: Seccomp) -> int:
    return max((NUMBERS[name] for rule in profile.syscalls for name in rule.names), default=2**30)


def understands(profile: Seccomp) -> bool:
    return profile.default_action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE")


@pytest.mark.covers("linux.seccomp.**")
@settings(max_examples=300)
@given(profiles(), st.sampled_from(tuple(NUMBERS)), st.tuples(*[st.sampled_from(WIDE)] * 6))
def test_a_filter_says_what_its_profile_says(profile: Seccomp, name: str, arguments: tuple[int, ...]) -> None:
    newer = NUMBERS[name] > listed_highest(profile) and not understands(profile)
    expected = UNKNOWN if newer else meant(profile, name, arguments)
    assert run(compile_profile(profile), X86_64, NUMBERS[name], arguments) == expected


@pytest.mark.parametrize("apart", [True, False])
@pytest.mark.parametrize(
    ("one", "other", "refused"),
    [
        (("LT", 5), ("LT", 2**32), True),
        (("LE", 0), ("GE", 2**32), True),
        (("GT", 2**33), ("LT", 1), True),
        (("GE", 5), ("GT", 2**33), False),
        (("LT", 38), ("GT", 40), False),
        (("EQ", 39), ("LT", 2**32), False),
    ],
)
def test_bounds_that_libseccomp_would_confuse_are_refused(
    one: tuple[str, int], other: tuple[str, int], refused: bool, apart: bool
) -> None:
    first, second = (SyscallArg(3, value, op=f"SCMP_CMP_{op}") for op, value in (one, other))
    rules = [(first,), (second,)] if apart else [(first, second)]
    profile = Seccomp("SCMP_ACT_LOG", syscalls=[Syscall(("ioctl",), "SCMP_ACT_KILL", args=args) for args in rules])
    if not refused:
        for value in WIDE:
            expected = KILL if applies((first, second), (0, 0, 0, value)) else verdict("SCMP_ACT_LOG", None)
            assert run(compile_profile(profile), X86_64, NUMBERS["ioctl"], (0, 0, 0, value, 0, 0)) == expected
        return
    with pytest.raises(UnsupportedError, match="upper 32 bits differ") as caught:
        compile_profile(profile)
    place = "syscalls[1].args[0]" if apart else "syscalls[0].args[1]"
    assert str(caught.value).startswith(f"linux.seccomp.{place}: ")


@given(profiles(), st.integers(0, 2**30 - 1))
def test_what_is_newer_than_all_that_is_listed_is_not_implemented(profile: Seccomp, number: int) -> None:
    if number in NUMBERS.values():
        return
    default = verdict(profile.default_action, profile.default_errno_ret)
    newer = number > listed_highest(profile) and not understands(profile)
    assert run(compile_profile(profile), X86_64, number) == (UNKNOWN if newer else default)


@given(profiles(), st.integers(0, 500))
def test_what_is_no_architecture_of_the_profile_is_deadly(profile: Seccomp, number: int) -> None:
    program = compile_profile(profile)
    assert run(program, I386, number) == KILL
    assert run(program, X86_64, X32_BIT | number) == KILL


def test_a_large_profile_allows_what_it_lists_and_nothing_else() -> None:
    program = compile_profile(listed("SCMP_ACT_ERRNO", architectures=ARCHITECTURES))
    numbers = {library.system_call(name) for name in LISTED}
    for number in range(440):
        expected = number in numbers or number == 41 or number == 135  # socket and personality, by their arguments
        assert (run(program, X86_64, number) == verdict("SCMP_ACT_ALLOW", None)) is expected, number


def test_a_large_profile_heeds_arguments_in_its_tree() -> None:
    program = compile_profile(listed("SCMP_ACT_ERRNO", architectures=ARCHITECTURES))
    refused, allowed = verdict("SCMP_ACT_ERRNO", None), verdict("SCMP_ACT_ALLOW", None)
    assert [run(program, X86_64, 41, (family,)) for family in (1, 40, 2**32 + 40)] == [allowed, refused, allowed]
    assert [run(program, X86_64, 135, (value,)) for value in (0, 8, 9, 2**32)] == [allowed, allowed, refused, refused]


@pytest.mark.parametrize(("architecture", "mkdir", "beyond"), [(I386, 39, 600), (X86_64, X32_BIT | 83, X32_BIT | 600)])
def test_every_architecture_of_the_profile_has_its_own_numbers(architecture: int, mkdir: int, beyond: int) -> None:
    program = compile_profile(listed("SCMP_ACT_KILL_PROCESS", architectures=ARCHITECTURES))
    assert run(program, architecture, mkdir) == verdict("SCMP_ACT_ALLOW", None)
    assert run(program, architecture, beyond) == UNKNOWN


def test_many_rules_are_found_by_halving() -> None:
    """libseccomp's binary tree: no call meets more than a few of some two hundred comparisons."""
    program = compile_profile(listed("SCMP_ACT_ERRNO"))
    jumps = sum(code == 0x25 for code, *_ in INSTRUCTION.iter_unpack(program))
    assert jumps > 20


def test_a_default_that_is_not_implemented_anyway_needs_no_head() -> None:
    profile = listed("SCMP_ACT_ERRNO")
    other = profile.evolve(default_errno_ret=errno.ENOSYS)
    assert len(compile_profile(other)) < len(compile_profile(profile))
    assert run(compile_profile(other), X86_64, 5000) == UNKNOWN


def test_a_rule_that_says_what_the_default_says_is_left_out() -> None:
    rules = (Syscall(("mkdir",), "SCMP_ACT_ERRNO", 1), Syscall(("read",), "SCMP_ACT_KILL_PROCESS"))
    program = compile_profile(Seccomp("SCMP_ACT_ERRNO", syscalls=rules))
    assert run(program, X86_64, NUMBERS["mkdir"]) == verdict("SCMP_ACT_ERRNO", 1)


def test_a_profile_is_compiled_once() -> None:
    assert compile_profile(listed("SCMP_ACT_LOG")) is compile_profile(listed("SCMP_ACT_LOG"))


def refused(profile: Seccomp) -> UnsupportedError:
    with pytest.raises(UnsupportedError) as caught:
        compile_profile(profile)
    return caught.value


def test_rules_that_cannot_both_be_kept_are_refused_by_their_path() -> None:
    one = (SyscallArg(0, 1, op="SCMP_CMP_EQ"),)
    rules = (Syscall(("mkdir",), "SCMP_ACT_ERRNO", 1, one), Syscall(("read", "mkdir"), "SCMP_ACT_ERRNO", 2, one))
    assert refused(Seccomp("SCMP_ACT_ALLOW", syscalls=rules)).origin == "linux.seccomp.syscalls[1].names[1]"


def test_a_program_that_the_kernel_would_not_take_is_refused() -> None:
    rules = tuple(
        Syscall(("mkdir",), "SCMP_ACT_ERRNO", None, (SyscallArg(0, value << 32 | value, op="SCMP_CMP_EQ"),))
        for value in range(2000)
    )
    error = refused(Seccomp("SCMP_ACT_ALLOW", syscalls=rules))
    assert error.origin == "linux.seccomp"
    assert "4096" in error.needs


@pytest.mark.parametrize(
    ("name", "words"), [("S390X", "another byte order"), ("MIPS", "another byte order"), ("NOSUCH", "a newer one")]
)
def test_an_architecture_that_cannot_be_had_is_refused_by_its_path(name: str, words: str) -> None:
    error = refused(Seccomp("SCMP_ACT_ALLOW", architectures=("SCMP_ARCH_X86_64", f"SCMP_ARCH_{name}")))
    assert error.origin == "linux.seccomp.architectures[1]"
    assert words in error.needs


def test_without_libseccomp_its_package_is_named(tmp_path: Path) -> None:
    """In a process whose loader finds another file of that name, which is no library."""
    (tmp_path / "libseccomp.so.2").write_text("")
    script = (
        "from ocirt.seccomp.compile import compile_profile\n"
        "from ocirt.spec import Seccomp\n"
        "try:\n    compile_profile(Seccomp('SCMP_ACT_ALLOW'))\n"
        "except Exception as error:\n    print(error)\n"
    )
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert result.stdout.startswith("linux.seccomp: needs libseccomp")
    assert "libseccomp2" in result.stdout


def test_a_profile_without_an_action_asks_for_nothing() -> None:
    assert profile_of(Linux(seccomp=Seccomp())) is None
    assert profile_of(Linux()) is None
    assert profile_of(None) is None


def test_only_a_rule_makes_a_profile_ask() -> None:
    asking = Seccomp("SCMP_ACT_ALLOW", syscalls=(Syscall(("mkdir",), "SCMP_ACT_NOTIFY"),))
    assert notifies(asking)
    assert not notifies(evolve(asking, syscalls=()))
