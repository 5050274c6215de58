"""What ends a run early, and what is said of an outage: by the public door, in real time."""

import contextlib
import itertools
import json
import re
import shlex
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from bulkfetch.export.journal import Journal
from bulkfetch.simulator import Profile
from bulkfetch.simulator.profile import Limit, Limits, Window

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]
ALONG = ("--shape", "learners", "--batch-size", "20", "--workers", "2")


def last_lines(result: subprocess.CompletedProcess[bytes]) -> tuple[str, str]:
    """Return what was said in the end, and the command to go on with."""
    *said, command = result.stderr.decode().splitlines()
    return "\n".join(said), command.strip()


def go_on(bulkfetch: Bulkfetch, command: str) -> subprocess.CompletedProcess[bytes]:
    name, *arguments = shlex.split(command)
    assert name == "bulkfetch"
    return bulkfetch(*arguments)


Pairs = set[tuple[str, str]]


def asked(place: Any, since: int = 0) -> Pairs:
    everything = place.account.course_ids
    return {
        pair
        for call in place.simulator.ledger.calls[since:]
        for pair in itertools.product(call.learner_ids or (), call.course_ids or everything)
    }


def fetched(place: Any) -> Pairs:
    """Return what the journal has."""
    with contextlib.closing(Journal.open_existing(place.directory / "o.csv.bulkfetch")) as journal:
        return {
            pair
            for batch in journal.finished()
            for pair in itertools.product(batch.learners or (), batch.courses or ())
        }


OUT = {"schedule": (Window(from_s=0, to_s=9e9, outage=True),)}
REFUSING = {"limits": Limits(max_in_flight=Limit(at=0, past="429"))}


@contextmanager
def out(
    place: Any, how: dict[str, Any] = OUT, *, seconds: float, after_calls: int = 3
) -> Iterator[None]:
    """Have the service go out once it has answered some more calls with rows, for so long."""
    service = place.simulator._service
    before: Profile = service._profile
    ledger, is_over = place.simulator.ledger, threading.Event()

    def answered() -> int:
        return sum(call.finished_s is not None and bool(call.rows) for call in list(ledger.calls))

    begin = answered()

    def switch() -> None:
        while answered() < begin + after_calls and not is_over.is_set():
            time.sleep(0.01)
        service._profile = replace(before, **how)
        is_over.wait(seconds)
        service._profile = before

    thread = threading.Thread(target=switch)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


@pytest.mark.parametrize("bound", [("--max-quarantined", "5"), ("--max-quarantined=5",)])
def test_a_run_in_which_everything_is_rejected_is_stopped(
    bulkfetch: Bulkfetch, serve: Serve, bound: tuple[str, ...]
) -> None:
    place = serve()
    learners = sorted(place.account.learner_ids)
    place.simulator._service.poison_learners = frozenset(learners[::4])
    result = bulkfetch(*place.export(*ALONG, *bound))
    assert result.returncode == 3
    said, command = last_lines(result)
    # A call under way when the sixth was found may find another.
    found = re.search(r"[67] quarantined", said)
    assert found
    assert "more than 5 ids or pairs were rejected" in said
    assert "Wrong parameters" in said
    assert "Everything else" not in said
    assert "Kept in the journal: " in said
    kept = fetched(place)
    assert len(kept) < len(learners) * len(place.account.course_ids) / 2
    # Of each course something is kept, and not all: none has failed.
    assert re.search(r"20 courses: 0 returned, \d+ in part, 0 confirmed empty, 0 quarantined", said)
    ids = re.search(r"pairs of ([\d,]+) learners and 20 courses failed", said)
    count = re.search(r"600 learners: \d+ returned, (?:(\d+) in part, )?.* (\d+) failed", said)
    assert ids
    assert count
    assert int(ids[1]) == int(count[1] or 0) + int(count[2])
    # As many again would be rejected: the command that goes on has no bound.
    assert "for the rest, however many ids are rejected, with:" in said
    assert "--max-quarantined" not in command
    # When the ids are mended the same command goes on with what was not asked for yet.
    place.simulator._service.poison_learners = frozenset()
    before = len(place.simulator.ledger.calls)
    result = go_on(bulkfetch, command)
    assert result.returncode == 3
    assert kept.isdisjoint(asked(place, before))
    said, command = last_lines(result)
    assert found[0] in said
    assert command.endswith("--retry-quarantined")
    assert go_on(bulkfetch, command).returncode == 0


def test_a_retry_in_which_everything_is_rejected_is_stopped_and_says_so(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    bad = sorted(place.account.learner_ids)[::30]
    place.simulator._service.poison_learners = frozenset(bad)
    assert bulkfetch(*place.export(*ALONG)).returncode == 3
    before = len(place.simulator.ledger.calls)
    result = bulkfetch(*place.export(*ALONG, "--retry-quarantined", "--max-quarantined", "5"))
    assert result.returncode == 3
    assert len(place.simulator.ledger.calls) - before < len(bad)
    said, command = last_lines(result)
    assert f"{len(bad)} quarantined" in said
    assert "not asked for again was not fetched, because more than 5 ids or pairs were" in said
    assert "Everything else was fetched. " in said
    assert "When what was rejected is mended, ask for it again with:" in said
    assert command.endswith("--retry-quarantined")
    assert "--max-quarantined" not in command
    place.simulator._service.poison_learners = frozenset()
    assert go_on(bulkfetch, command).returncode == 0


def test_no_call_begins_after_the_deadline(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve({"name": "slow", "latency": {"base_ms": 300.0}})
    result = bulkfetch(*place.export(*ALONG, "--deadline", "2s"))
    assert result.returncode == 3
    said, command = last_lines(result)
    assert "the time given with the deadline was over" in said
    assert "Kept in the journal: " in said
    calls = place.simulator.ledger.calls
    begun = [call.started_s for call in calls]
    assert max(begun) - min(begun) < 2.2
    kept = fetched(place)
    assert kept
    before = len(calls)
    result = go_on(bulkfetch, command.replace(" --deadline 2s", ""))
    assert result.returncode == 0, result.stderr
    assert kept.isdisjoint(asked(place, before))


def test_an_outage_that_lasts_too_long_ends_the_run(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    with out(place, seconds=60, after_calls=8):  # the first ones are checked before they are kept
        started = time.monotonic()
        result = bulkfetch(*place.export(*ALONG, "--max-outage", "2s"))
        assert time.monotonic() - started < 30
    assert result.returncode == 3
    said, command = last_lines(result)
    assert "The service is out since" in said
    assert "answers again" not in said
    assert "the service does not answer" in said
    assert "Kept in the journal: " in said
    kept = fetched(place)
    assert kept
    before = len(place.simulator.ledger.calls)
    result = go_on(bulkfetch, command)
    assert result.returncode == 0, result.stderr
    assert kept.isdisjoint(asked(place, before))


@pytest.mark.parametrize("how", ["text", "json", "quiet"])
def test_an_outage_is_said_once_as_it_begins_and_once_as_it_ends(
    bulkfetch: Bulkfetch, serve: Serve, how: str
) -> None:
    place = serve()
    more = {"text": [], "json": ["--log-format", "json"], "quiet": ["--quiet"]}[how]
    with out(place, seconds=10):
        result = bulkfetch(*place.export(*ALONG, *more))
    assert result.returncode == 0
    said = result.stderr.decode().splitlines()
    if how == "quiet":
        assert said == []
    elif how == "json":
        events = [event for event in map(json.loads, said) if event["event"] == "outage"]
        assert [event["state"] for event in events] == ["began", "ended"]
        assert events[0]["gives_up_at"] - events[0]["since"] == pytest.approx(600, abs=1)
        assert events[0]["since"] <= events[0]["next_probe_at"] < events[0]["gives_up_at"]
    else:
        (began,) = [line for line in said if "is out since" in line]
        assert "next try at " in began
        assert "gives up at" in began
        (ended,) = [line for line in said if "answers again" in line]
        assert said.index(began) < said.index(ended)


def test_an_outage_is_given_up_no_later_than_the_deadline(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    with out(place, seconds=30):
        began_at = time.time()
        result = bulkfetch(*place.export(*ALONG, "--log-format", "json", "--deadline", "6s"))
    assert result.returncode == 3
    events = [json.loads(line) for line in result.stderr.decode().splitlines()]
    (began,) = [event for event in events if event["event"] == "outage"]
    assert began_at + 5 < began["gives_up_at"] < began_at + 9


def test_a_service_that_refuses_all_calls_is_not_out_and_not_given_up(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    arguments = place.export(*ALONG, "--max-outage", "1s", "--log-format", "json")
    # Twice, as where a quota is used up every minute: the second time does not last for longer.
    with out(place, REFUSING, seconds=9), out(place, REFUSING, seconds=6, after_calls=16):
        result = bulkfetch(*arguments)
    assert result.returncode == 0, result.stderr
    began, ended = [
        event
        for event in map(json.loads, result.stderr.decode().splitlines())
        if event["event"] == "outage"
    ]
    assert (began["state"], ended["state"]) == ("began", "ended")
    assert began["gives_up_at"] is None
    assert began["next_probe_at"] > began["since"] + 4
    said = re.fullmatch(
        r"The service refuses all calls since (\S+): The service asks for fewer calls \(429\)\. "
        r"All calls wait; next try at (\S+)\.",
        began["message"],
    )
    assert said
    assert said[1] != said[2]
    assert "answers again" in ended["message"]


def test_a_long_wait_that_the_service_asks_for_is_said_once(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve({"faults": {"http_503": 1.0, "retry_after": "3600"}})
    result = bulkfetch(*place.export("--deadline", "2s", "--log-format", "json"))
    assert result.returncode == 3
    events = [json.loads(line) for line in result.stderr.decode().splitlines()]
    (wait,) = [event for event in events if event["event"] == "wait"]
    assert wait["until"] == pytest.approx(time.time() + 600, abs=15)  # no more is waited
    assert "asks to wait: no call begins before" in wait["message"]


def test_at_a_terminal_an_outage_is_said_above_the_bar(
    terminal: Callable[..., tuple[int, str]], serve: Serve
) -> None:
    place = serve()
    with out(place, seconds=10):
        code, shown = terminal(*place.export(*ALONG))
    assert code == 0
    assert shown.count("is out since") == 1
    assert shown.count("answers again") == 1
    assert "ETA" in shown
