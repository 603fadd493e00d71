"""The encoding of CRIU's protocol: what protobuf's own documents show, and that nothing is lost."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.criu.messages import Option, Request, decode, encode, nested, number, text


def test_the_examples_of_protobufs_documents() -> None:
    assert encode([(1, 150)]) == bytes.fromhex("089601")
    assert encode([(2, "testing")]) == bytes.fromhex("120774657374696e67")
    assert encode([(3, [(1, 150)])]) == bytes.fromhex("1a03089601")


def test_a_negative_number_has_ten_bytes() -> None:
    assert encode([(1, -1)]) == b"\x08" + b"\xff" * 9 + b"\x01"
    assert number(decode(encode([(7, -52)])), 7) == -52


def test_what_criu_3_17_1_answers_to_a_question_for_its_version() -> None:
    answer = decode(b"\x08\n\x10\x01R\x06\x08\x03\x10\x11 \x01")
    assert number(answer, 1) == Request.VERSION
    assert number(answer, 2) == 1
    told = nested(answer, 10)
    assert [number(told, field) for field in (1, 2, 4)] == [3, 17, 1]


@given(st.dictionaries(st.integers(1, 2**29 - 1), st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary()))
def test_what_was_encoded_is_decoded(fields: dict[int, int | str | bytes]) -> None:
    found = decode(encode(list(fields.items())))
    assert found.keys() == fields.keys()
    for key, value in fields.items():
        if isinstance(value, int):
            assert number(found, key) == value
        elif isinstance(value, bytes):
            assert found[key] == value
        else:
            assert found[key] == value.encode()


@given(st.binary())
def test_any_bytes_are_decoded_or_refused(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert all(field >= 0 for field in decode(data))


@pytest.mark.parametrize("data", [b"\x08", b"\x0a\x05ab", b"\x0b", b"\xff" * 11])
def test_what_is_cut_short_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="protobuf: "):
        decode(data)


def test_what_is_absent_has_a_default() -> None:
    assert (number({}, 1), nested({}, 1), text({}, 1)) == (0, {}, "")


def test_a_field_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="no number"):
        number({1: b"x"}, 1)
    with pytest.raises(ValueError, match="no message"):
        nested({1: 1}, 1)


def test_the_fields_are_those_of_criu() -> None:
    """In the order of rpc.proto, as Debian has it for CRIU 3.17.1."""
    try:
        with open("/usr/include/criu/rpc.proto", encoding="utf-8") as file:
            found = re.findall(r"(\w+)\s*=\s*(\d+)[ ;]", file.read())
    except FileNotFoundError:
        pytest.skip("needs CRIU's headers (Debian: apt-get install criu)")
    fields = {(name, int(value)) for name, value in found}
    assert {(option.name.lower(), int(option)) for option in Option} - fields == set()
    assert {(request.name, int(request)) for request in Request} - fields == set()
