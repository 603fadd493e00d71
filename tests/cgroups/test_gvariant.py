"""D-Bus values as text, read."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.cgroups.gvariant import parse
from ocirt.cgroups.gvariant_types import INTEGERS, KEYWORDS, Value, VariantError, read_signature, written

TYPES = {letter: word for word, letter in KEYWORDS.items()}

strings = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
basic: dict[str, st.SearchStrategy[Value]] = {
    "b": st.booleans(),
    **{letter: st.integers(lowest, highest) for letter, (lowest, highest) in INTEGERS.items()},
    "d": st.floats(allow_nan=False),
    "s": strings,
    "o": st.sampled_from(["/", "/a", "/a_1/B"]),
    "g": st.sampled_from(["", "s", "a(st)", "a{sv}u"]),
}
signatures = st.recursive(
    st.sampled_from([*basic, "v"]),
    lambda inner: (
        inner.map("a{}".format)
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({''.join(parts)})")
        | st.tuples(st.sampled_from("siy"), inner).map("".join).map("a{{{}}}".format)
    ),
    max_leaves=5,
)


def values(signature: str) -> st.SearchStrategy[Value]:
    """Of one type, in the shapes that jeepney takes."""
    pattern = read_signature(signature)
    if isinstance(pattern, str):
        if pattern != "v":
            return basic[pattern]
        return signatures.filter(lambda text: "v" not in text).flatmap(
            lambda inner: st.tuples(st.just(inner), values(inner))
        )
    kind, *parts = pattern
    inner = [written(part) for part in parts]
    if kind == "(":
        return st.tuples(*map(values, inner))
    if inner == ["y"]:
        return st.binary(max_size=4)
    if inner[0].startswith("{"):
        entry = parts[0]
        return st.dictionaries(values(written(entry[1])), values(written(entry[2])), max_size=3)
    return st.lists(values(inner[0]), max_size=3)


def text(signature: str, value: Value) -> str:
    """As g_variant_print writes it with types."""
    pattern = read_signature(signature)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        number = repr(value) if math.isfinite(value) else ("-" if value < 0 else "") + "inf"
        return f"{TYPES[signature]} {number}"
    if isinstance(value, str):
        quoted = value.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
        return f"{TYPES[signature]} '{quoted}'" if signature != "s" else f"'{quoted}'"
    if signature == "v":
        assert isinstance(value, tuple)
        return f"<{text(str(value[0]), value[1])}>"
    assert isinstance(pattern, tuple)
    if isinstance(value, tuple):
        members = [text(written(part), item) for part, item in zip(pattern[1:], value, strict=True)]
        return f"({members[0]},)" if len(members) == 1 else f"({', '.join(members)})"
    if isinstance(value, dict):
        entry = pattern[1]
        pairs = [f"{text(written(entry[1]), key)}: {text(written(entry[2]), item)}" for key, item in value.items()]
        return f"@{signature} {{{', '.join(pairs)}}}"
    return f"@{signature} [{', '.join(text(written(pattern[1]), item) for item in value)}]"


@given(signatures.flatmap(lambda signature: st.tuples(st.just(signature), values(signature))))
def test_a_value_written_out_is_read_back(typed: tuple[str, Value]) -> None:
    assert parse(text(*typed)) == typed


@given(st.text(st.sampled_from("[](){}<>,:'\"\\@asbvuit019-. truenilbyte")) | st.text())
def test_whatever_else_is_an_error_of_its_own_kind(text: str) -> None:
    try:
        signature, _ = parse(text)
    except VariantError:
        return
    assert written(read_signature(signature)) == signature


@pytest.mark.parametrize(
    ("text", "signature", "value"),
    [
        ("true", "b", True),
        (" false ", "b", False),
        ("5", "i", 5),
        ("-0x10", "i", -16),
        ("010", "i", 8),
        ("uint64 5", "t", 5),
        ("byte 0xff", "y", 255),
        ("1.5", "d", 1.5),
        ("1e3", "d", 1000.0),
        ("double 2", "d", 2.0),
        ("'it\\'s'", "s", "it's"),
        ('"\\u00e9\\t"', "s", "é\t"),
        ("@as []", "as", []),
        ("['a', 'b']", "as", ["a", "b"]),
        ("[1, uint64 2]", "at", [1, 2]),
        ("[[], ['a']]", "aas", [[], ["a"]]),
        ("(1,)", "(i)", (1,)),
        ("('a', <uint32 3>)", "(sv)", ("a", ("u", 3))),
        ("@a(st) [('/dev/vda', 5)]", "a(st)", [("/dev/vda", 5)]),
        ("{'a': <1>, 'b': <'x'>}", "a{sv}", {"a": ("i", 1), "b": ("s", "x")}),
        ("b'ab\\001'", "ay", b"ab\x01\0"),
        ("[byte 1, 2]", "ay", b"\x01\x02"),
        ("[objectpath '/a', '/b']", "ao", ["/a", "/b"]),
    ],
)
def test_glibs_examples(text: str, signature: str, value: Value) -> None:
    assert parse(text) == (signature, value)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ", "[]", "{}", "()", "(1)", "[1,]", "[1", "[1 2]", "1 2", "'a", "foo", "just 1", "nothing"),
        *("[1, 'a']", "uint64 -1", "byte 256", "2147483648", "09", "{[1]: 2}", "{1}", "@zz 1", "@a{vs} {}", "@s 1"),
        *(
            "objectpath 'a'",
            "signature 'z'",
            "'\\u0000'",
            "'\\U00110000'",
            "handle 0",
            "[" * 1000,
            "@" + "a" * 99 + "s []",
        ),
    ],
)
def test_what_is_no_value_of_d_bus_is_refused(text: str) -> None:
    with pytest.raises(VariantError):
        parse(text)
