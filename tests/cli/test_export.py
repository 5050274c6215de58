import csv
import io
import json
import os
import shlex
import signal
import stat
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]
SLOW = {"name": "slow", "latency": {"base_ms": 400.0}}


def ids_of(data: bytes) -> list[str]:
    return [row["enrollment_id"] for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]


def test_an_export_holds_every_enrollment_and_says_what_it_did(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    result = bulkfetch(*place.export("--report", "r.json"))
    assert result.returncode == 0, result.stderr
    assert result.stdout == b""
    expected = sorted(row.enrollment_id for row in place.account.enrollments())
    assert ids_of((place.directory / "o.csv").read_bytes()) == expected
    report = json.loads((place.directory / "r.json").read_text())
    assert report["complete"] is True
    assert report["rows"] == len(expected)
    learners = {row.learner_id for row in place.account.enrollments()}
    assert report["confirmed_empty"]["learners"] == 600 - len(learners)
    assert f"{len(expected):,} rows" in result.stderr.decode()


@pytest.mark.parametrize("name", ["o.csv", "o.jsonl"])
def test_the_bytes_are_the_same_whatever_happened_on_the_way(
    bulkfetch: Bulkfetch, serve: Serve, name: str
) -> None:
    outputs = []
    for seed, (profile, batch_size, workers) in enumerate(
        [("steady", "100", "10"), ("flaky", "170", "4"), ("legacy", "600", "1")]
    ):
        place = serve(profile, seed=seed)
        sizes = ("--batch-size", batch_size, "--workers", workers, "--restart", "--attempts", "9")
        result = bulkfetch(*place.export(*sizes, output=name))
        assert result.returncode == 0, result.stderr
        outputs.append((place.directory / name).read_bytes())
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_finished_journal_makes_no_request_and_publishes_the_same(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    first, calls = (place.directory / "o.csv").read_bytes(), len(place.simulator.ledger.calls)
    (place.directory / "o.csv").unlink()
    again = bulkfetch(*place.export("--batch-size", "7", "--workers", "2"))
    assert again.returncode == 0
    assert (place.directory / "o.csv").read_bytes() == first
    assert len(place.simulator.ledger.calls) == calls


def test_further_outputs_come_from_the_journal_without_a_call(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    calls = len(place.simulator.ledger.calls)
    result = bulkfetch("publish", "o.csv.bulkfetch", "-o", "-")
    assert (result.returncode, len(place.simulator.ledger.calls)) == (0, calls)
    assert result.stdout == (place.directory / "o.csv").read_bytes()
    assert bulkfetch("publish", "o.csv.bulkfetch", "-o", "p.jsonl").returncode == 0
    assert len((place.directory / "p.jsonl").read_text().splitlines()) == 5_000


def test_an_unfinished_journal_is_published_only_if_asked_for(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    bad = place.account.learner_ids[3]
    place = serve({"name": "poison", "permanent": {"poison_learners": [bad]}})
    assert bulkfetch(*place.export()).returncode == 3
    refused = bulkfetch("publish", "o.csv.bulkfetch", "-o", "p.csv")
    assert (refused.returncode, bad.encode() in refused.stderr) == (3, True)
    assert not (place.directory / "p.csv").exists()
    part = bulkfetch("publish", "o.csv.bulkfetch", "-o", "p.csv", "--partial")
    assert part.returncode == 3
    said, what, how, command = part.stderr.decode().splitlines()[-4:]
    assert said == "written to p.csv"
    assert what.startswith("Not everything that was asked for was fetched: 1 quarantined (first: ")
    assert bad in what
    assert how == "Run the export again for the rest, then publish with:"
    assert command == "  bulkfetch publish o.csv.bulkfetch -o p.csv --partial"
    assert (place.directory / "p.csv").exists()
    assert bulkfetch("publish", "missing", "-o", "p.csv").returncode == 2
    assert bulkfetch("publish", "learners.txt", "-o", "p.csv").returncode == 6


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_it_soon_and_the_same_command_completes_it(
    bulkfetch: Bulkfetch, serve: Serve, number: int
) -> None:
    place = serve(SLOW)
    arguments = place.export("--batch-size", "20", "--workers", "4")
    with subprocess.Popen(
        [sys.executable, "-m", "bulkfetch", *arguments],
        cwd=place.directory,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        while len(place.simulator.ledger.calls) < 20:
            time.sleep(0.02)
        process.send_signal(number)
        signalled = time.monotonic()
        _, stderr = process.communicate(timeout=10)
    assert time.monotonic() - signalled < 2
    assert process.returncode == 128 + number
    assert not (place.directory / "o.csv").exists()
    lines = stderr.decode().strip().splitlines()
    assert lines[-1].strip().startswith("bulkfetch export --url")
    before = len(place.simulator.ledger.calls)
    assert bulkfetch(*arguments).returncode == 0
    expected = sorted(row.enrollment_id for row in place.account.enrollments())
    assert ids_of((place.directory / "o.csv").read_bytes()) == expected
    learners = sorted(place.account.learner_ids)
    batches = {tuple(learners[at : at + 20]) for at in range(0, len(learners), 20)}
    again = {call.learner_ids for call in place.simulator.ledger.calls[before:]}
    assert len(batches & again) < len(batches)


def test_csv_goes_to_standard_output_and_a_closed_reader_is_exit_7(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    result = bulkfetch(*place.export(output="-"))
    assert result.returncode == 0
    assert len(ids_of(result.stdout)) == len(list(place.account.enrollments()))
    assert sorted(path.name for path in place.directory.iterdir()) == [
        "courses.txt", "learners.txt", "token.txt",
    ]  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-m", "bulkfetch", *place.export(output="-")],
        cwd=place.directory,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        _, stderr = process.communicate(timeout=30)
    assert process.returncode == 7
    assert b"Traceback" not in stderr


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
def test_a_closed_reader_can_be_gone_on_from_if_there_is_a_journal(
    bulkfetch: Bulkfetch, serve: Serve, unbuffered: str
) -> None:
    place = serve()
    arguments = place.export("--journal", "j", output="-")
    command = shlex.join([sys.executable, "-m", "bulkfetch", *arguments])
    result = subprocess.run(
        ["bash", "-c", f"{command} | head -n 1; exit ${{PIPESTATUS[0]}}"],
        cwd=place.directory,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (result.returncode, len(result.stdout.splitlines())) == (7, 1)
    last = result.stderr.decode().strip().splitlines()[-1].strip()
    assert shlex.split(last) == ["bulkfetch", *arguments]
    calls = len(place.simulator.ledger.calls)
    again = bulkfetch(*arguments)
    assert (again.returncode, len(place.simulator.ledger.calls)) == (0, calls)
    assert len(ids_of(again.stdout)) == 5_000


@pytest.mark.parametrize("form", ["jsonl", "parquet", "sqlite"])
def test_every_format_goes_to_standard_output(
    bulkfetch: Bulkfetch, serve: Serve, form: str
) -> None:
    place = serve()
    arguments = ("--format", form, "--journal", "j")
    result = bulkfetch(*place.export(*arguments, output="-"))
    assert result.returncode == 0, result.stderr
    assert bulkfetch("publish", "j", "-o", f"o.{form}").returncode == 0
    assert result.stdout == (place.directory / f"o.{form}").read_bytes()
    assert len(result.stdout) > 100_000


def test_everything_written_is_private_whatever_the_umask(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    before = os.umask(0)
    try:
        assert bulkfetch(*place.export("--report", "r.json")).returncode == 0
    finally:
        os.umask(before)
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in place.directory.iterdir()
        if path.name[:2] in {"o.", "r."}
    }
    assert set(modes.values()) == {0o600}
    assert {"o.csv", "o.csv.bulkfetch", "r.json"} <= set(modes)


def test_poison_ids_are_named_and_the_rest_is_kept(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    bad = place.account.learner_ids[17]
    place = serve({"name": "poison", "permanent": {"poison_learners": [bad]}})
    result = bulkfetch(*place.export("--partial", "--report", "r.json"))
    assert result.returncode == 3
    report = json.loads((place.directory / "r.json").read_text())
    assert [entry["learner_ids"] for entry in report["quarantined"]] == [[bad]]
    assert report["complete"] is False
    expected = sorted(
        row.enrollment_id for row in place.account.enrollments() if row.learner_id != bad
    )
    assert ids_of((place.directory / "o.partial.csv").read_bytes()) == expected
    assert not (place.directory / "o.csv").exists()
    assert result.stderr.decode().strip().splitlines()[-1].strip().startswith("bulkfetch export")


@pytest.mark.parametrize("refusal", ["subscription_expired", "permission_denied"])
def test_a_refused_account_is_exit_4(bulkfetch: Bulkfetch, serve: Serve, refusal: str) -> None:
    result = bulkfetch(*serve({"name": "x", "permanent": {refusal: True}}).export())
    assert result.returncode == 4
    assert "The service refuses the" in result.stderr.decode()


def test_a_wrong_token_is_exit_4_and_appears_nowhere(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve({"name": "echo", "faults": {"echo_token": 1.0}})
    secret = "s3cr3t-t0ken-<&>'\"-value"
    (place.directory / "token.txt").write_text(secret)
    result = bulkfetch(*place.export("--report", "r.json", "--attempts", "2"), BULKFETCH_DEBUG="1")
    assert result.returncode in {3, 4}
    written = [path.read_bytes() for path in place.directory.iterdir() if path.name[:2] != "to"]
    for data in (result.stdout, result.stderr, *written):
        assert b"s3cr3t" not in data


def test_an_unreachable_service_is_incomplete_and_can_be_resumed(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    arguments = place.export("--attempts", "1", "--max-outage", "0")
    arguments[arguments.index("--url") + 1] = "http://127.0.0.1:9"
    result = bulkfetch(*arguments)
    assert result.returncode == 3
    assert "cannot be reached" in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()


def test_other_inputs_and_a_locked_journal_are_exit_6(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    assert bulkfetch(*place.export()).returncode == 0
    with (place.directory / "learners.txt").open("a") as file:
        file.write("\nanother-learner")
    result = bulkfetch(*place.export())
    assert result.returncode == 6
    assert "1 is new" in result.stderr.decode()
    assert bulkfetch(*place.export("--restart")).returncode == 0
    import fcntl  # noqa: PLC0415

    with (place.directory / "o.csv.bulkfetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = bulkfetch(*place.export("--restart"))
    assert result.returncode == 6
    assert "Another run" in result.stderr.decode()


@pytest.mark.parametrize(
    ("change", "code", "sentence"),
    [
        ({"--url": "http://example.org"}, 2, "https://"),
        ({"--url": "https://user:password@example.org"}, 2, "user name"),
        ({"--token-file": "missing.txt"}, 2, "cannot be read"),
        ({"--learners": "missing.txt"}, 2, "cannot be read"),
        ({"--learners": "empty.txt"}, 2, "holds no ids"),
        ({"-o": "o.xlsx"}, 2, "not known"),
        ({"-o": "missing/o.csv"}, 7, "does not exist"),
        ({"--report": "missing/r.json"}, 7, "does not exist"),
        ({"--batch-size": "0"}, 2, "--batch-size must be"),
        ({"--workers": "9", "--max-workers": "8"}, 2, "(9) is more than --max-workers (8)"),
        ({"--deadline": "10x"}, 2, "--deadline must be a number of seconds, or a number with s,"),
        ({"--max-outage": ""}, 2, "(600, 90m, 2h), not ''"),
        ({"--ca-bundle": "empty.txt", "--url": "https://127.0.0.1:9"}, 2, "CA bundle"),
        ({"--learners": "-", "--courses": "-"}, 2, "Only one"),
        ({"-o": "learners.txt", "--format": "csv"}, 2, "name the same file"),
        ({"--journal": "o.csv"}, 2, "name the same file"),
        ({"--report": "./o.csv"}, 2, "name the same file"),
        ({"--journal": "token.txt"}, 2, "name the same file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else None,
)
def test_what_cannot_work_is_one_sentence_before_any_request(
    bulkfetch: Bulkfetch, serve: Serve, change: dict[str, str], code: int, sentence: str
) -> None:
    place = serve()
    (place.directory / "empty.txt").write_text(" \n\n")
    arguments = place.export()
    for option, value in change.items():
        if option in arguments:
            arguments[arguments.index(option) + 1] = value
        else:
            arguments += [option, value]
    result = bulkfetch(*arguments)
    assert result.returncode == code
    assert sentence in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()
    assert not place.simulator.ledger.calls


def test_no_ids_no_credentials_and_two_credentials_are_usage_errors(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    url = place.simulator.url
    nothing = bulkfetch("export", "--url", url, "--token-file", "token.txt", "-o", "o.csv")
    assert (nothing.returncode, b"No ids" in nothing.stderr) == (2, True)
    none = bulkfetch("export", "--url", url, "--learners", "learners.txt", "-o", "o.csv")
    assert (none.returncode, b"No credentials" in none.stderr) == (2, True)
    both = bulkfetch(*place.export(), BULKFETCH_TOKEN="another-token")
    assert (both.returncode, b"more than once" in both.stderr) == (2, True)


def test_credentials_url_and_ids_come_from_environment_and_standard_input(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve("expiring")
    result = bulkfetch(
        *("export", "--learners", "-", "-o", "o.jsonl", "--quiet"),
        stdin="\r\n".join(place.account.learner_ids[:50]).encode(),
        BULKFETCH_URL=place.simulator.url,
        BULKFETCH_CLIENT_ID=place.simulator.client_id,
        BULKFETCH_CLIENT_SECRET=place.simulator.client_secret,
    )
    assert (result.returncode, result.stderr, result.stdout) == (0, b"", b"")
    learners = set(place.account.learner_ids[:50])
    lines = (place.directory / "o.jsonl").read_text().splitlines()
    assert len(lines) == sum(row.learner_id in learners for row in place.account.enrollments())


def test_json_logs_are_one_object_a_line(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    result = bulkfetch(*place.export("--log-format", "json"))
    events = [json.loads(line) for line in result.stderr.splitlines()]
    assert events[-1]["event"] == "summary"
    assert events[-1]["report"]["complete"] is True


def test_the_whole_account_is_one_call(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    result = bulkfetch(
        *("export", "--url", place.simulator.url, "--token-file", "token.txt"),
        *("--whole-account", "-o", "o.csv"),
    )
    assert result.returncode == 0
    assert len(ids_of((place.directory / "o.csv").read_bytes())) == 5_000
    calls = place.simulator.ledger.calls_of("GetEnrollments")
    assert [(call.learner_ids, call.course_ids) for call in calls].count((None, None)) == 1
    assert len(calls) <= 1 + 2  # samples, to see that the answer was not cut off


def test_a_whole_account_that_is_cut_off_is_incomplete_and_says_so(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve({"name": "c", "limits": {"max_rows": {"at": 777, "past": "silent-cap"}}})
    result = bulkfetch(
        *("export", "--url", place.simulator.url, "--token-file", "token.txt"),
        *("--whole-account", "-o", "o.csv", "--report", "r.json"),
    )
    assert result.returncode == 3
    assert not (place.directory / "o.csv").exists()
    assert "about 777 rows" in result.stderr.decode()
    assert len(json.loads((place.directory / "r.json").read_text())["failed"]) == 1


@pytest.mark.parametrize("side", ["--learners", "--courses", None])
def test_an_export_from_a_capped_service_has_every_row_once(
    bulkfetch: Bulkfetch, serve: Serve, side: str | None
) -> None:
    """No side is left out where a cap is below what one course has."""
    at = 1_500 if side == "--courses" else 250
    place = serve({"name": "c", "limits": {"max_rows": {"at": at, "past": "silent-cap"}}})
    arguments = place.export("--report", "r.json")
    if side is not None:
        left_out = "--courses" if side == "--learners" else "--learners"
        position = arguments.index(left_out)
        del arguments[position : position + 2]
    result = bulkfetch(*arguments)
    assert result.returncode == 0, result.stderr
    expected = sorted(row.enrollment_id for row in place.account.enrollments())
    assert ids_of((place.directory / "o.csv").read_bytes()) == expected
    report = json.loads((place.directory / "r.json").read_text())
    assert report["duplicates"] == report["conflict_count"] == 0
    assert report["cap_checks"] > 0


def test_a_token_file_that_others_can_read_is_warned_of(bulkfetch: Bulkfetch, serve: Serve) -> None:
    place = serve()
    (place.directory / "token.txt").chmod(0o644)
    result = bulkfetch(*place.export("--quiet"))
    assert result.returncode == 0
    assert b"can be read by others" in result.stderr


def test_no_option_takes_a_secret(bulkfetch: Bulkfetch) -> None:
    text = bulkfetch("export", "--help").stdout.decode()
    assert "--token-file" in text
    for option in ("--token ", "--client-secret", "--secret", "--password"):
        assert option not in text


def test_version_and_help_of_every_command(bulkfetch: Bulkfetch) -> None:
    assert bulkfetch("--version").stdout.strip()
    for command in ("export", "publish", "simulate", "demo"):
        result = bulkfetch(command, "--help")
        assert (result.returncode, b"--quiet" in result.stdout) == (0, True)


def test_demo_exports_shows_rows_and_says_what_is_next(
    bulkfetch: Bulkfetch, tmp_path: Path
) -> None:
    for _ in range(2):
        result = bulkfetch("demo", "--enrollments", "3000")
        assert result.returncode == 0, result.stderr
        assert b"enrollment_id" in result.stdout
        assert b"3,000 rows" in result.stderr
        assert b"bulkfetch export --url https://" in result.stderr
    assert (tmp_path / "bulkfetch-demo" / "enrollments.parquet").stat().st_size > 10_000


def test_simulate_serves_until_it_is_terminated(tmp_path: Path, bulkfetch: Bulkfetch) -> None:
    command = [sys.executable, "-m", "bulkfetch", "simulate", "--learners", "100"]
    command += ["--courses", "5", "--enrollments", "500", "--ids-dir", "ids"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        result = bulkfetch(
            *("export", "--url", url, "--token-file", "ids/token.txt"),
            *("--learners", "ids/learners.txt", "--courses", "ids/courses.txt", "-o", "o.csv"),
        )
        process.terminate()
        _, stderr = process.communicate(timeout=10)
    assert result.returncode == 0, result.stderr
    assert process.returncode == 143
    assert "bulkfetch export" in stderr
    assert len(ids_of((tmp_path / "o.csv").read_bytes())) == 500


def test_profiles_are_listed(bulkfetch: Bulkfetch) -> None:
    names = bulkfetch("simulate", "--list-profiles").stdout.decode()
    assert "flaky" in names
    assert "steady" in names


@pytest.mark.parametrize("limit", [{"max_ids": 8}, {"max_request_bytes": 1_000}], ids=str)
def test_batches_settle_below_what_a_gateway_finds_too_long(
    bulkfetch: Bulkfetch, serve: Serve, limit: dict[str, int]
) -> None:
    limits = {key: {"at": at, "past": "414"} for key, at in limit.items()}
    place = serve({"latency": {"base_ms": 20}, "limits": limits})
    result = bulkfetch(*place.export("--shape", "learners"))
    assert result.returncode == 0, result.stderr
    assert len(ids_of((place.directory / "o.csv").read_bytes())) == 5_000
    # Past the limit on bytes nobody reads what a call asks for.
    calls = place.simulator.ledger.calls
    too_long = [at for at, call in enumerate(calls) if call.status == 414]
    assert 0 < len(too_long) < len(calls) / 4
    settled = [len(call.learner_ids or ()) for call in calls[too_long[-1] + 1 :]]
    assert len(settled) > len(calls) / 2
    assert statistics.median(settled) == max(settled) == 8
