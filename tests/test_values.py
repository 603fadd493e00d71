"""The values of which plans consist behave as those that attrs makes."""

from __future__ import annotations

import copy
import pickle

import pytest

from ocirt.plan.ops import JoinProcess, Op, RunHook, SetHostname, Sync
from ocirt.values import Value
from ocirt.wire import Failed


class Point(Value):
    x: int
    y: int = 0


class Named(Point, hidden=("secret",)):
    name: str = ""
    secret: str = "-"


class Empty(Value):
    pass


def test_fields_are_given_in_their_order_or_by_name() -> None:
    assert (Point(1).x, Point(1).y) == (1, 0)
    assert Point(1, 2) == Point(y=2, x=1)
    assert Named(1, 2, "n") == Named(x=1, y=2, name="n")


def test_the_common_members_of_operations_are_given_by_name_alone() -> None:
    assert SetHostname("demo", origin="hostname").origin == "hostname"
    assert SetHostname.__match_args__ == ("name",)
    with pytest.raises(TypeError, match="SetHostname takes 1 arguments, each once: name"):
        SetHostname("demo", "hostname")  # type: ignore[call-arg]  # that is what is refused


@pytest.mark.parametrize(("args", "fields"), [((), {}), ((1,), {"z": 1}), ((1, 2, 3), {}), ((1,), {"x": 1})])
def test_what_does_not_fit_is_refused(args: tuple[int, ...], fields: dict[str, int]) -> None:
    with pytest.raises(TypeError, match="Point"):
        Point(*args, **fields)


def test_values_of_one_class_are_equal_if_all_fields_are() -> None:
    assert Point(1) == Point(1, 0)
    assert hash(Point(1)) == hash(Point(1, 0))
    assert len({Point(1), Point(1), Point(2)}) == 2
    assert Point(1) != Point(2)
    assert Point(1) != (1, 0)
    assert Empty() == Empty()
    assert Op(origin="a") != Op(origin="b")


def test_values_of_different_classes_are_not_equal() -> None:
    class Other(Value):
        x: int
        y: int = 0

    assert Point(1) != Other(1)
    assert Empty() != Point(1)


def test_they_cannot_be_changed() -> None:
    point = Point(1)
    with pytest.raises(AttributeError, match="Point is frozen: x cannot be changed"):
        point.x = 2  # type: ignore[misc]  # that is what is refused
    with pytest.raises(AttributeError, match="Point is frozen: x cannot be deleted"):
        del point.x
    assert point.x == 1


def test_a_copy_may_differ() -> None:
    operation = SetHostname("a", origin="hostname")
    assert operation.evolve(name="b") == SetHostname("b", origin="hostname")
    assert operation == SetHostname("a", origin="hostname")
    with pytest.raises(TypeError, match="nothing"):
        operation.evolve(nothing=1)


def test_they_show_what_they_hold_but_for_what_is_hidden() -> None:
    assert repr(Named(1, 2, "n", "pw")) == "Named(x=1, y=2, name='n')"
    assert repr(JoinProcess(3, 4, origin="o")) == "JoinProcess(origin='o', pidfd=3, flags=4)"  # type: ignore[arg-type]  # shown, not used
    assert "state" not in repr(RunHook("/bin/true", (), (), 0, False, ("a", "b")))


def test_they_are_matched_by_place() -> None:
    match Point(1, 2):
        case Point(x, y):
            assert (x, y) == (1, 2)
    match Failed(0, 2, 0, "open", "x", index=1):
        case Failed(left, number):
            assert (left, number) == (0, 2)


def test_they_can_be_copied_and_sent() -> None:
    value = Sync.__match_args__
    assert value == ("purpose",)
    point = SetHostname("a", origin="b")
    assert copy.deepcopy(point) == pickle.loads(pickle.dumps(point)) == point
