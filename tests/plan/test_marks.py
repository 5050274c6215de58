"""Ids of a sorted list that are marked, against plain sets."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from bulkfetch.plan.marks import Marks, find, find_stretch, without

_IDS = tuple(f"{number:02}" for number in range(0, 40, 2))
_some = st.lists(st.integers(0, 41).map("{:02}".format), unique=True).map(sorted).map(tuple)
_stretches = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda ends: _IDS[slice(*ends)])
_updates = st.lists(
    (_some | _stretches).flatmap(
        lambda ids: st.tuples(
            st.just(ids),
            st.none() | st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)),
        )
    )
)


@given(_updates, _some)
def test_marks_are_the_set_of_what_was_added(
    updates: Sequence[tuple[tuple[str, ...], list[bool] | None]], asked: tuple[str, ...]
) -> None:
    marks = Marks(_IDS)
    expected: set[str] = set()
    for ids, flags in updates:
        marks.update(ids, None if flags is None else bytes(flags))
        chosen = [True] * len(ids) if flags is None else flags
        expected |= {unit for unit, flag in zip(ids, chosen, strict=True) if flag}
    assert sorted(marks) == sorted(expected)
    assert len(marks) == len(expected)
    for ids in (_IDS, asked):
        assert without(ids, marks) == [unit for unit in ids if unit not in expected]
        assert without(ids, expected) == [unit for unit in ids if unit not in expected]


def test_no_list_is_no_stretch_unless_its_ids_follow_one_another() -> None:
    assert find_stretch(_IDS, _IDS[3:7]) == 3
    assert find_stretch(_IDS, (_IDS[3], _IDS[5])) is None
    assert find_stretch(_IDS, (*_IDS[-2:], "99")) is None
    assert find_stretch(_IDS, ("01",)) is None


def test_an_id_is_found_where_it_stands() -> None:
    assert [find(_IDS, unit) for unit in ("00", "38", "01", "99")] == [0, 19, None, None]
