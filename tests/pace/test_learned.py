import json
from random import Random

import pytest

from bulkfetch.pace.controller import Pace, PaceSettings
from bulkfetch.pace.learned import describe, recall
from bulkfetch.pace.timeline import Timeline
from bulkfetch.plan.rectangle import Axis, make_rectangle

ASKED = make_rectangle([f"l{n}" for n in range(400)], None)


def make() -> Pace:
    return Pace(PaceSettings(), Random(1), Timeline(0.0, 0.0))


def test_a_resumed_run_begins_with_what_was_learned() -> None:
    before = make()
    now = 0.0
    for _ in range(200):
        size = before.size(Axis.LEARNERS, 100_000, now)
        ticket = before.begin(Axis.LEARNERS, size, now)
        now += 0.3 + 0.01 * size.ids
        if size.ids > 200:
            before.on_too_large(ticket, now, ASKED, is_request=True)
        else:
            before.on_success(ticket, now, rows=10 * size.ids, body_bytes=size.ids, seconds=0)
    before.refusals.on_admitted(3, 3, 1.0)
    assert before.refusals.on_refused(4, 4, now)
    before.minute.learn(60, now)
    text = json.dumps(describe(before))
    after = make()
    recall(after, json.loads(text), now=5.0)
    assert after.sizes[Axis.LEARNERS].proven == 200
    assert after.sizes[Axis.LEARNERS].refused == before.sizes[Axis.LEARNERS].refused
    assert after.refusals.most_in_flight == 3
    assert after.minute.most == 60
    assert after.expected_s(Axis.LEARNERS, 100) == pytest.approx(
        before.models[Axis.LEARNERS].seconds_of(100)
    )
    assert not after.size(Axis.LEARNERS, 100_000, 5.0).is_trial


@pytest.mark.parametrize(
    "learned",
    [None, [], {}, {"version": 2}, {"version": 1}, {"version": 1, "limit": "x", "sizes": 3},
     {"version": 1, "limit": -4, "sizes": {"learners": {"proven": None}}, "models": 1},
     {"version": 1, "limit": 1e400, "models": {"learners": {"weight": "a"}}}],
)  # fmt: skip
def test_what_cannot_be_read_is_passed_over(learned: object) -> None:
    pace = make()
    recall(pace, learned, now=0.0)
    assert describe(pace) == describe(make())
