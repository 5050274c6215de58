"""The last line is the command that goes on, and nothing says a secret."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Bulkfetch = Callable[..., subprocess.CompletedProcess[bytes]]
Serve = Callable[..., Any]
TOKEN = "s3cr3t-token-0123456789"


def test_a_name_that_a_terminal_would_obey_is_quoted_so_that_the_command_can_be_copied(
    bulkfetch: Bulkfetch, serve: Serve
) -> None:
    place = serve()
    (place.directory / "an\nodd\x1b[31m'dir\\").mkdir()
    output = "an\nodd\x1b[31m'dir\\/ü\u202e.csv"
    arguments = place.export(output=output)
    (place.directory / "learners.txt").rename(place.directory / "later.txt")
    (place.directory / "learners.txt").write_text("nobody\n")
    assert bulkfetch(*arguments).returncode == 0
    (place.directory / "later.txt").rename(place.directory / "learners.txt")
    result = bulkfetch(*arguments)
    assert result.returncode == 6
    line = result.stderr.decode().splitlines()[-1]
    assert line.isprintable()
    assert line.startswith("  bulkfetch export")
    echoed = subprocess.run(
        ["bash", "-c", f"bulkfetch() {{ printf '%s\\0' \"$@\"; }}; {line}"],
        capture_output=True,
        check=True,
    )
    assert echoed.stdout.decode().split("\0")[:-1] == arguments


@pytest.mark.parametrize("is_ignored", [False, True], ids=["terminal", "nohup"])
def test_the_end_of_the_terminal_ends_a_run_like_a_signal(serve: Serve, is_ignored: bool) -> None:
    place = serve({"latency": {"base_ms": 1_000}})
    # These tests, too, may run where nobody hears the terminal end.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "bulkfetch", *place.export("--workers", "1")],
            cwd=place.directory,
            stderr=subprocess.PIPE,
        )
    finally:
        signal.signal(signal.SIGHUP, before)
    while not place.simulator.ledger.calls:
        time.sleep(0.01)
    process.send_signal(signal.SIGHUP)
    sent_at = time.monotonic()
    _, stderr = process.communicate(timeout=60)
    if is_ignored:
        assert process.returncode == 0, stderr
        return
    assert time.monotonic() - sent_at < 2
    assert process.returncode == 129, stderr
    assert stderr.decode().splitlines()[-1].startswith("  bulkfetch export --url")


@pytest.mark.parametrize(
    "output",
    [
        "postgresql:bob:S3cr3tP@host/db",
        "postgresql:bob:S3cr3tP@host/db.csv",
        "host=/x dbname=postgres password=S3cr3tP",
        "bob:S3cr3tP@host",
    ],
)
def test_a_mistyped_address_of_a_database_is_not_repeated(
    bulkfetch: Bulkfetch, tmp_path: Path, output: str
) -> None:
    for arguments in (
        ("export", "--url", "http://127.0.0.1:9", "--learners", "l", "-o", output),
        ("publish", "k", "-o", output),
    ):
        result = bulkfetch(*arguments, BULKFETCH_TOKEN="t")
        assert result.returncode == 2, result.stderr
        assert b"S3cr3tP" not in result.stderr
    assert not list(tmp_path.iterdir())


class Echo(BaseHTTPRequestHandler):
    """Answers with the token as an id, a date that cannot be read, and a repeated id."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        rows = "".join(
            f"<enrollment><enrollmentId>{TOKEN}</enrollmentId><courseId>c</courseId>"
            f"<learnerId>l</learnerId><accessDate>{day}</accessDate><certificate>"
            f"<issuedCertificateId>{TOKEN}</issuedCertificateId><issueDate>2023-01-0{n} 07:19:00"
            "</issueDate></certificate></enrollment>"
            for n, day in ((1, "never"), (2, "2022-01-01"))
        )
        body = (
            '<?xml version="1.0"?><e:Envelope xmlns:e="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns="https://ispringlearn.com/go/services/api/soap"><e:Body>'
            f"<GetEnrollmentsResult>{rows}</GetEnrollmentsResult></e:Body></e:Envelope>"
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def test_a_token_that_comes_back_as_data_is_in_the_data_and_in_no_report(
    bulkfetch: Bulkfetch, tmp_path: Path
) -> None:
    with HTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        (tmp_path / "l.txt").write_text("l\n")
        try:
            result = bulkfetch(
                *("export", "--url", f"http://127.0.0.1:{server.server_port}"),
                *("--learners", "l.txt", "-o", "o.csv", "--report", "r.json"),
                BULKFETCH_TOKEN=TOKEN,
            )
            assert result.returncode == 0, result.stderr
            page = bulkfetch("report", "o.csv.bulkfetch", "-o", "r.html")
        finally:
            server.shutdown()
            thread.join()
    assert TOKEN in (tmp_path / "o.csv").read_text()
    text = (tmp_path / "r.json").read_text()
    for shown in (text, (tmp_path / "r.html").read_text(), str(result.stderr), str(page.stderr)):
        assert TOKEN not in shown
    report = json.loads(text)
    assert report["anomalies"] == [
        {"enrollment_id": "[redacted]", "field": "access_date", "raw": "never"}
    ]
    (conflict,) = report["conflicts"]
    times = {conflict[row]["cert_issue_date"] for row in ("kept", "dropped")}
    assert times == {"2023-01-01T07:19:00+00:00", "2023-01-02T07:19:00+00:00"}


@pytest.mark.parametrize(
    ("ids", "sentence"),
    [
        (pa.array([1.0, None, 3.0]), b"pandas makes such numbers"),
        (pa.array([1e300, float("nan")]), b"numbers with a fraction (double)"),
        (pa.array([True, False]), b"holds bool, not ids"),
        (pa.array([["a"]]), b"not ids: write it as text"),
    ],
    ids=["floats", "odd floats", "bools", "lists"],
)
def test_what_is_no_id_in_parquet_is_refused(
    bulkfetch: Bulkfetch, tmp_path: Path, ids: pa.Array, sentence: bytes
) -> None:
    pq.write_table(pa.table({"learner_id": ids, "course_id": ids}), tmp_path / "l.parquet")
    for option in ("--learners", "--pairs"):
        result = bulkfetch("plan", option, "l.parquet")
        assert result.returncode == 2, result.stderr
        assert sentence in result.stderr


@pytest.mark.parametrize(
    "ids",
    [
        pa.array([1, 2**62]),
        pa.array(["a", None]),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["a"], pa.large_string()),
    ],
    ids=["integers", "text", "dictionary", "large text"],
)
def test_what_can_be_an_id_in_parquet_is_taken(
    bulkfetch: Bulkfetch, tmp_path: Path, ids: pa.Array
) -> None:
    pq.write_table(pa.table({"learner_id": ids}), tmp_path / "l.parquet")
    result = bulkfetch("plan", "--learners", "l.parquet")
    assert result.returncode == 0, result.stderr


ROW = dict.fromkeys(
    (
        *("enrollment_id", "course_id", "learner_id", "access_date", "due_date"),
        *("expiration_date", "should_lock_after_due_date", "enrollment_type_group"),
        *("issued_certificate_id", "cert_issue_date", "cert_expiry_date"),
    )
)


def test_a_truncated_file_is_one_sentence(bulkfetch: Bulkfetch, tmp_path: Path) -> None:
    lines = [
        json.dumps(ROW | {"enrollment_id": f"e{n}", "course_id": "c", "learner_id": "l"})
        for n in range(99)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "b.jsonl").write_text("\n".join(lines)[:-40])
    for sides in (("a.jsonl", "b.jsonl"), ("b.jsonl", "a.jsonl")):
        result = bulkfetch("diff", *sides)
        assert result.returncode == 2, result.stderr
        (line,) = result.stderr.decode().splitlines()
        assert line.startswith("The file b.jsonl cannot be read as enrollments: ")
        assert "Python" not in line


def test_a_csv_that_shows_that_it_is_raw_is_read_so(bulkfetch: Bulkfetch, tmp_path: Path) -> None:
    cells = ["=1+1", "'=quoted", "plain", "-5"]
    rows = [ROW | {"enrollment_id": f"e{n}", "course_id": c, "learner_id": "l"}
            for n, c in enumerate(cells)]  # fmt: skip
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    text = ",".join(ROW) + "\r\n"
    for row in rows:
        text += ",".join(str(value or "") for value in row.values()) + "\r\n"
    (tmp_path / "raw.csv").write_text(text, newline="")
    result = bulkfetch("diff", "a.jsonl", "raw.csv")
    assert result.returncode == 0, result.stderr
    assert b"0 added, 0 removed, 0 changed" in result.stderr


def test_a_signal_before_anything_began_is_the_command_in_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "token")
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "bulkfetch", "export", "--url", "http://127.0.0.1:9"),
            *("--learners", "l", "--token-file", "token", "-o", "a\nb.csv"),
        ],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
    )
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.5)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode in {143, -signal.SIGTERM}  # the latter while Python itself starts
    if process.returncode == 143:
        assert stderr.decode().splitlines()[-1].endswith(r"-o $'a\x0ab.csv'")


@pytest.mark.parametrize(
    "given",
    [
        *("--batch-size 0", "--workers 0", "--max-workers 0", "--rate 0", "--max-quarantined -1"),
        *("--deadline 0", "--attempts 0", "--connect-timeout 0", "--read-timeout -1"),
        *("--total-timeout nan", "--max-answer-bytes 0", "--soap-path x", "--token-path {x}"),
        *("--shape round", f"--max-outage {'9' * 400}"),
    ],
)
def test_a_value_that_cannot_be_is_refused_by_the_name_of_its_option(
    bulkfetch: Bulkfetch, given: str
) -> None:
    option, value = given.split()
    common = ("--url", "http://127.0.0.1:9", "--learners", "l", "-o", "o.csv")
    result = bulkfetch("export", *common, option, value, BULKFETCH_TOKEN="t")
    assert result.returncode == 2
    (said,) = result.stderr.decode().splitlines()
    assert said.startswith(f"{option} must be")


def test_options_that_do_not_go_together_are_named(bulkfetch: Bulkfetch) -> None:
    common = ("--url", "http://127.0.0.1:9", "--learners", "l", "-o", "o.csv")
    pace = ("--workers", "2000", "--max-workers", "1500")
    result = bulkfetch("export", *common, *pace, BULKFETCH_TOKEN="t")
    assert result.returncode == 2
    assert result.stderr == b"--workers (2,000) is more than --max-workers (1,500).\n"
