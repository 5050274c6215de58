"""`bulkfetch plan`: what each way of asking would cost, and which one an export would choose.

Nothing is asked of the account, unless `--probe` lets a few small calls replace the guesses.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import TextIO

import anyio
from rich.console import Console as RichConsole

from bulkfetch.cli.asked import Asked, AskedArguments, read_asked, require_one_stdin
from bulkfetch.cli.console import Console
from bulkfetch.cli.credentials import find_credentials
from bulkfetch.cli.running import ending, leave
from bulkfetch.engine.call import Caller, HttpExchange
from bulkfetch.engine.fetch import make_pace, make_planner
from bulkfetch.engine.listing import ListedPage, Lister
from bulkfetch.engine.outcome import Counters
from bulkfetch.engine.pool import wait_for_rate
from bulkfetch.engine.probe import probe
from bulkfetch.errors import UsageError
from bulkfetch.http.address import check_base_url
from bulkfetch.options import Options
from bulkfetch.plan.beliefs import Ratio
from bulkfetch.plan.cost import Estimate
from bulkfetch.plan.planner import Planner
from bulkfetch.plan.rectangle import Axis, Rectangle
from bulkfetch.plan.region import PairSet, Region
from bulkfetch.runtime import Runtime
from bulkfetch.service import open_service
from bulkfetch.wire.decode import ObjectDecoder
from bulkfetch.words import counted, counted_side

_WIDTH = 200  # where standard output is no terminal
_MINUTE_S = 60.0
_HOUR_S = 3600.0
_LARGE = 100.0


@dataclass(frozen=True, slots=True)
class PlanArguments:
    """The command's options as they were given."""

    asked: AskedArguments
    url: str | None
    token_file: str | None
    probe: bool


@dataclass(frozen=True, slots=True)
class Planned:
    """A plan, what it was made from, and what came of asking the account."""

    region: Region
    planner: Planner
    calls: int
    findings: tuple[str, ...]


def plan(arguments: PlanArguments, make_options: Callable[[], Options], console: Console) -> None:
    """Show the plan and exit."""
    with ending(console, None) as result:
        options = make_options()
        require_one_stdin(arguments.asked, arguments.token_file)
        asked = read_asked(arguments.asked)
        if arguments.probe:
            planned = anyio.run(_ask, asked, arguments, options, console)
        elif asked.discover:
            raise UsageError(
                "How many ids the account lists is not known before it is asked: use --probe, or "
                "give the ids in files."
            )
        else:
            planned = Planned(asked.region, make_planner(asked.region, options), 0, ())
        if console.as_json:
            sys.stdout.write(json.dumps(_as_json(planned)) + "\n")
        else:
            _show(planned, sys.stdout)
    leave(result.code)


async def _ask(
    asked: Asked, arguments: PlanArguments, options: Options, console: Console
) -> Planned:
    """List the ids that are to come from the account, and probe it."""
    url = arguments.url or os.environ.get("BULKFETCH_URL")
    if not url:
        raise UsageError("No service is given: use --url or BULKFETCH_URL.")
    base_url = check_base_url(url)
    credentials = find_credentials(arguments.token_file, os.environ, console.warn)
    counters, region = Counters(), asked.region
    runtime = Runtime()
    pace = make_pace(options, runtime)
    async with open_service(base_url, credentials, options, runtime) as service:
        for axis in asked.discover:
            lister = Lister(service, counters, options.retry, pace)
            ids = await _list(lister, axis)
            assert isinstance(region, Rectangle)  # pairs are not listed
            region = region.replace(axis, ids)
        planner = make_planner(region, options, asked.discover)
        exchange = HttpExchange(service, ObjectDecoder(), counters, region)
        caller = Caller(exchange, service.desk, counters)
        findings = await probe(caller, planner, lambda: wait_for_rate(pace, runtime))
    planner.choose_again()
    return Planned(region, planner, counters.calls, tuple(findings))


def _show(planned: Planned, stream: TextIO) -> None:
    """Show a plan as a table and a few sentences."""
    planner = planned.planner
    console = RichConsole(
        file=stream, markup=False, highlight=False, width=None if stream.isatty() else _WIDTH
    )
    console.print(f"{_size_of(planned.region)}: {planner.choice.reason}.")
    for line in _table(planner):
        console.print(line, soft_wrap=True)  # not cut, however narrow it is
    console.print(
        f"Time is with {counted(planner.workers, 'call')} in flight, longest that of a single "
        "call, risk the chance that its answer passes a limit of the service."
    )
    console.print("\n".join(_explain(planned)))
    if planned.calls:
        console.print(f"Measured in {counted(planned.calls, 'call')}; the rows are not kept.")
    else:
        console.print(
            "No call was made: everything is a guess. --probe measures it in a few calls."
        )
    for finding in planned.findings:
        console.print(f"A probing call failed: {finding}")


def _table(planner: Planner) -> list[str]:
    """Return a table with two lines a shape, its name and its figures: one would be too wide."""
    heads = ("calls", "ids/call", "rows", "surplus", "MB", "time", "longest", "risk")
    estimates = planner.estimates()
    figures = [heads, *map(_figures_of, estimates)]
    widths = [max(map(len, column)) for column in zip(*figures, strict=True)]
    head, *lines = ("  " + "  ".join(map(str.rjust, row, widths)) for row in figures)
    names = [
        f"{'→' if each.shape is planner.shape else ' '} {each.title} ({each.shape})"
        for each in estimates
    ]
    return [head, *chain.from_iterable(zip(names, lines, strict=True))]


def _figures_of(each: Estimate) -> tuple[str, ...]:
    return (
        f"{each.calls:,}",
        f"{each.ids_a_call:,}",
        f"{each.rows:,}",
        f"{'~' if each.is_rough and each.surplus else ''}{each.surplus:,}",
        _short(each.body_bytes / 1e6),
        _duration(each.seconds),
        _duration(each.call_s),
        f"{each.risk:.0%}",
    )


class _Basis(Enum):
    """What a number rests on."""

    KNOWN = ""
    PARTLY_GUESSED = "partly guessed"
    GUESSED = "guessed"

    @classmethod
    def of(cls, belief: Ratio) -> "_Basis":
        if not belief.is_measured:
            return cls.GUESSED
        return cls.PARTLY_GUESSED if belief.is_rough else cls.KNOWN


def _explain(planned: Planned) -> list[str]:
    """Say what the estimates rest on, number by number, and what of it is a guess."""
    return [
        f"  {name}: {text}{f' ({basis.value})' if basis.value else ''}"
        for name, text, basis in _numbers(planned)
    ]


def _numbers(planned: Planned) -> list[tuple[str, str, _Basis]]:
    beliefs = planned.planner.beliefs

    def share(belief: Ratio, axis: Axis) -> tuple[str, _Basis]:
        """Say a share; where no ids are given along the axis, all rows are wanted, for sure."""
        is_sure = planned.region.side(axis) is None
        return f"{belief.value:.0%}", _Basis.KNOWN if is_sure else _Basis.of(belief)

    call_s, row_s, id_s = beliefs.speed.coefficients()
    speed = f"{call_s:.3f} s and {row_s * 1e6:,.0f} µs a row and {id_s * 1e6:,.0f} µs an id"
    return [
        ("rows a pair wanted", f"{beliefs.density.value:.4g}", _Basis.of(beliefs.density)),
        ("of a learner's rows, wanted", *share(beliefs.share_of_learner, Axis.COURSES)),
        ("of a course's rows, wanted", *share(beliefs.share_of_course, Axis.LEARNERS)),
        ("a call", speed, _Basis.KNOWN if beliefs.speed.is_measured else _Basis.GUESSED),
        (
            "a row",
            f"{beliefs.bytes_per_row.value:,.0f} bytes",
            _Basis.of(beliefs.bytes_per_row),
        ),
    ]


def _as_json(planned: Planned) -> dict[str, object]:
    planner = planned.planner
    beliefs = planner.beliefs
    call_s, row_s, id_s = beliefs.speed.coefficients()
    return {
        "event": "plan",
        "asked": {
            axis.value: None if planned.region.side(axis) is None else planned.region.width(axis)
            for axis in Axis
        },
        "pairs": planned.region.pairs if isinstance(planned.region, PairSet) else None,
        "choice": planner.shape.value,
        "reason": planner.choice.reason,
        "workers": planner.workers,
        "calls_made": planned.calls,
        "findings": list(planned.findings),
        "shapes": [_estimate_as_json(each) for each in planner.estimates()],
        "beliefs": {
            "rows_per_pair": beliefs.density.value,
            "share_of_learner": beliefs.share_of_learner.value,
            "share_of_course": beliefs.share_of_course.value,
            "bytes_per_row": beliefs.bytes_per_row.value,
            "call_s": call_s,
            "row_s": row_s,
            "id_s": id_s,
        },
        **{
            basis.value.replace(" ", "_"): [
                name for name, _, of in _numbers(planned) if of is basis
            ]
            for basis in (_Basis.GUESSED, _Basis.PARTLY_GUESSED)
        },
    }


def _estimate_as_json(each: Estimate) -> dict[str, object]:
    return {
        "shape": each.shape.value,
        "title": each.title,
        "calls": each.calls,
        "batch_size": each.batch_size,
        "ids_a_call": each.ids_a_call,
        "rows": each.rows,
        "surplus": each.surplus,
        "surplus_is_guess": each.is_guess,
        "surplus_is_partly_guess": each.is_rough and not each.is_guess,
        "body_bytes": each.body_bytes,
        "seconds": round(each.seconds, 3),
        "longest_call_s": round(each.call_s, 3),
        "risk": round(each.risk, 4),
    }


def _size_of(region: Region) -> str:
    lists = " × ".join(
        counted_side(region.width(axis), axis.value)
        for axis in Axis
        if region.side(axis) is not None
    )
    if isinstance(region, PairSet):
        return f"{counted(region.pairs, 'pair')} of {lists}"
    return lists or "Whole account"


def _duration(seconds: float) -> str:
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    if seconds < _HOUR_S:
        return f"{seconds / _MINUTE_S:.1f} min"
    return f"{_short(seconds / _HOUR_S)} h"


def _short(number: float) -> str:
    return f"{number:,.1f}" if number < _LARGE else f"{number:,.0f}"


async def _list(lister: Lister, axis: Axis) -> tuple[str, ...]:
    """List the account's ids along an axis."""

    async def keep(_page: ListedPage) -> None:
        """Keep nothing: a plan has no journal."""

    async def forget() -> None:
        """There is nothing to forget."""

    return await lister.list_ids(axis, [], keep, forget)
