"""Whom a text means: the laws, for whatever an image's files hold. Examples are in tests/image/test_conversion.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocirt.spec.accounts import AccountError, Accounts, numeric

NAMES = st.sampled_from(["root", "alice", "bob", "0", "1000", "", "+", "#", "-x", "a b", "\udcff", "é"])
IDS = st.sampled_from(["0", "1", "1000", "4294967294", "4294967295", "-1", "+5", "1e3", "", "x", "٣", "9" * 400, " 7"])
LINES = st.lists(st.lists(NAMES | IDS, max_size=6).map(":".join), max_size=8)
FILES = st.one_of(
    st.binary(max_size=200),
    st.builds(lambda lines, end: end.join(lines).encode("utf-8", "surrogateescape"), LINES, st.sampled_from("\n\r")),
)
USERS = st.builds(lambda name, rest: f"{name}{rest}", NAMES | IDS, st.just("") | (NAMES | IDS).map(":{}".format))


@given(passwd=FILES, group=FILES, text=USERS)
def test_every_id_is_said_somewhere(passwd: bytes, group: bytes, text: str) -> None:
    """By the text itself or by a line; nobody becomes root because a file is odd."""
    try:
        user = Accounts.of(passwd, group).user(text)
    except AccountError:
        return
    name, _, wanted = text.partition(":")
    lines = [line.strip().split(":") for line in passwd.decode("utf-8", "surrogateescape").split("\n")]
    if name.isascii() and name.isdigit():
        assert user.uid == int(name)
        assert not user.additional_gids
    elif name:
        assert [name, str(user.uid)] in [
            [fields[0], fields[2].lstrip("0") or "0"] for fields in lines if len(fields) > 3
        ]
    else:
        assert user.uid == 0
    if wanted.isascii() and wanted.isdigit():
        assert user.gid == int(wanted)
    assert all(0 <= number < 2**32 - 1 for number in (user.uid, user.gid, *user.additional_gids))
    assert len(set(user.additional_gids)) == len(user.additional_gids)


@given(text=USERS)
def test_numbers_alone_need_no_file(text: str) -> None:
    def unread(_: str) -> bytes:
        raise AssertionError("a file is read")

    try:
        exact = numeric(text)
    except AccountError:
        return
    if exact is not None and (":" in text or not text):
        name, _, group = text.partition(":")
        assert (exact.uid, exact.gid) == (int(name or 0), int(group or 0))
        assert not text or Accounts(unread).user(text) == exact


def test_the_first_line_of_a_name_counts() -> None:
    accounts = Accounts.of(b"a:x:5:6::/:\na:x:0:0::/:\n", b"g:x:7:a\nh:x:7:a\ng:x:0:\n")
    assert (accounts.user("a").uid, accounts.user("a").additional_gids, accounts.group("g")) == (5, (7,), 7)
    with pytest.raises(AccountError, match="is no user in /etc/passwd"):
        accounts.user("b")
