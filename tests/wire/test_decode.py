"""Objects and Arrow hold the same values, report the same anomalies, in any thread."""

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulkfetch.errors import Anomaly
from bulkfetch.record import FIELD_NAMES, Enrollment, arrow_schema
from bulkfetch.wire.arrow import ArrowDecoder, pack_batch, unpack_rows
from bulkfetch.wire.decode import Decoded, Decoder, ObjectDecoder, UnprovenError, decode_document
from bulkfetch.wire.flatten import Flat, Flattener

IDS = "<enrollmentId>e{0}</enrollmentId><courseId>c</courseId><learnerId>l</learnerId>"


def rows_of(decoded: Decoded[Any]) -> list[tuple[Any, ...]]:
    if decoded.rows and isinstance(decoded.rows[0], pa.RecordBatch):
        return [tuple(row.values()) for batch in decoded.rows for row in batch.to_pylist()]
    return [tuple(row) for row in decoded.rows]


def both(document: bytes, *, walked_bytes: int) -> list[Decoded[Any]]:
    flattener = Flattener(walked_bytes=walked_bytes)
    decoders: list[Decoder[Any]] = [ObjectDecoder(), ArrowDecoder()]
    found = [decode_document(document, flattener, decoder) for decoder in decoders]
    assert all(isinstance(decoded, Decoded) for decoded in found)
    return found  # type: ignore[return-value]


walked = pytest.mark.parametrize("walked_bytes", [0, 10**9], ids=["printed", "walked"])


@walked
def test_unreadable_values_are_null_and_kept_as_raw_text(
    answer: Callable[..., bytes], walked_bytes: int
) -> None:
    bad = {
        "accessDate": "2022-02-30",
        "dueDate": "soon",
        "expirationDate": "٢٠٢٢-٠٧-١٤",
        "shouldLockAfterDueDate": "perhaps",
        "enrollmentTypeGroup": "128",
    }
    record = "".join(f"<{name}>{text}</{name}>" for name, text in bad.items())
    certificate = "<certificate><issueDate>-</issueDate><expiryDate>9999</expiryDate></certificate>"
    good = "<accessDate>2022-07-14</accessDate><enrollmentTypeGroup>1</enrollmentTypeGroup>"
    document = answer(
        records="".join(
            f"<enrollment>{IDS.format(i)}{good if i % 2 else record + certificate}</enrollment>"
            for i in range(5)
        )
    )
    raw = dict(zip(FIELD_NAMES[3:8], bad.values(), strict=True))
    raw |= {"cert_issue_date": "-", "cert_expiry_date": "9999"}
    expected = tuple(Anomaly(f"e{i}", name, text) for name, text in raw.items() for i in (0, 2, 4))
    for decoded in both(document, walked_bytes=walked_bytes):
        assert decoded.anomalies == expected
        rows = rows_of(decoded)
        assert rows[0] == ("e0", "c", "l", *[None] * 8)
        assert rows[1] == ("e1", "c", "l", date(2022, 7, 14), None, None, None, 1, *[None] * 3)


@walked
def test_the_first_and_the_last_day_survive_in_both_forms(
    answer: Callable[..., bytes], walked_bytes: int
) -> None:
    document = answer(
        records="".join(
            f"<enrollment>{IDS.format(day)}<accessDate>{day}</accessDate>"
            f"<issueDate>{day}T00:00:00</issueDate></enrollment>"
            for day in ("0001-01-01", "1969-12-31", "9999-12-31")
        )
    )
    days = [date(1, 1, 1), date(1969, 12, 31), date(9999, 12, 31)]
    for decoded in both(document, walked_bytes=walked_bytes):
        rows = rows_of(decoded)
        assert [row[3] for row in rows] == days
        assert [row[9] for row in rows] == [datetime(*d.timetuple()[:3], tzinfo=UTC) for d in days]
        assert not decoded.anomalies


@walked
def test_texts_that_readers_of_tables_like_to_change_are_left_alone(
    answer: Callable[..., bytes], walked_bytes: int
) -> None:
    texts = [
        "\ufeffx", "NULL", "nan", "N/A", "#N/A", "-", "None", "true", "007", "1e5", '"', '""', "'",
        ",", "\\N", "\\t", "=1+1", "@x", "\u2028", "\u0085", "\ufeff", "\u200f", "😀", "#",
    ]  # fmt: skip
    document = answer(
        records="".join(
            f"<enrollment><enrollmentId>{text}</enrollmentId><courseId>{text}</courseId>"
            f"<learnerId>{text}</learnerId><issuedCertificateId>{text}</issuedCertificateId>"
            "</enrollment>"
            for text in texts
        )
    )
    for decoded in both(document, walked_bytes=walked_bytes):
        assert [row[:3] for row in rows_of(decoded)] == [(text,) * 3 for text in texts]
        assert [row[8] for row in rows_of(decoded)] == texts
        assert decoded.learner_ids == decoded.course_ids == frozenset(texts)


def test_no_records_are_no_rows(answer: Callable[..., bytes]) -> None:
    for decoded in both(answer(0), walked_bytes=0):
        assert decoded == Decoded([], 0, frozenset(), frozenset(), ())


def test_arrow_has_the_schema_of_the_record(answer: Callable[..., bytes]) -> None:
    for walked_bytes in (0, 10**9):
        decoded = both(answer(3), walked_bytes=walked_bytes)[1]
        (batch,) = decoded.rows
        assert batch.schema == arrow_schema()
        batch.validate(full=True)
        assert unpack_rows(pack_batch(batch)) == rows_of(decoded)


def test_objects_are_enrollments(answer: Callable[..., bytes]) -> None:
    decoded = both(answer(1), walked_bytes=0)[0]
    assert decoded.rows == [
        Enrollment(
            "e0", "c0", "l0", date(2022, 7, 1), None, None, False, None, "k0",
            datetime(2022, 7, 15, 5, 19, tzinfo=UTC), None,
        )
    ]  # fmt: skip
    assert type(decoded.rows[0]) is Enrollment


LINE = "\t".join(["e", "c", "l", *[""] * 8]) + "\n"


@pytest.mark.parametrize("decoder", [ObjectDecoder(), ArrowDecoder()], ids=["objects", "arrow"])
@pytest.mark.parametrize(
    "flat",
    [
        pytest.param(Flat(LINE.encode(), 1, 4), id="a value was not printed"),
        pytest.param(Flat(LINE.encode(), 1, 2), id="a value was printed twice"),
        pytest.param(Flat(LINE.replace("e", "").encode(), 1, 2), id="no key"),
        pytest.param(Flat(LINE.replace("l", "").encode(), 1, 2), id="no learner"),
        pytest.param(Flat(LINE.replace("c\t", "\t", 1).encode(), 1, 2), id="no course"),
    ],
)
def test_flat_text_that_does_not_prove_itself_is_not_decoded(
    decoder: Decoder[object], flat: Flat
) -> None:
    with pytest.raises(UnprovenError):
        decoder.from_flat(flat)


@pytest.mark.parametrize("decoder", [ObjectDecoder(), ArrowDecoder()], ids=["objects", "arrow"])
def test_flat_text_that_proves_itself_is_decoded(decoder: Decoder[Any]) -> None:
    assert rows_of(decoder.from_flat(Flat(LINE.encode(), 1, 3))) == [("e", "c", "l", *[None] * 8)]


cells = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters=" \ufeff"), max_size=6
)
lines = st.lists(
    st.tuples(*[cells.filter(bool)] * 3, *[cells | st.sampled_from(["1", "2022-07-14"])] * 8),
    min_size=1,
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(lines)
def test_flat_text_and_rows_decode_alike_to_objects_and_arrow(
    rows: Sequence[tuple[str, ...]],
) -> None:
    text = "".join("\t".join(row) + "\n" for row in rows).encode()
    flat = Flat(text, len(rows), sum(bool(cell) for row in rows for cell in row))
    decoders: list[Decoder[Any]] = [ObjectDecoder(), ArrowDecoder()]
    readings = [
        (rows_of(decoded), decoded.anomalies, decoded.learner_ids)
        for decoder in decoders
        for decoded in (decoder.from_flat(flat), decoder.from_rows(rows))
    ]
    assert readings == [readings[0]] * 4


def test_one_flattener_serves_four_threads_at_once() -> None:
    """Parsers, stylesheets and trees must never be shared: lxml would corrupt memory."""
    flattener = Flattener(walked_bytes=2_000)
    decoders: list[Decoder[Any]] = [ObjectDecoder(), ArrowDecoder()]
    envelope = '<E xmlns="{0}"><Body xmlns="{0}"><GetEnrollmentsResult xmlns="{1}">{2}'

    def document(number: int) -> tuple[bytes, list[str]]:
        payload = ("https", "http", "")[number % 3]
        payload = payload and f"{payload}://ispringlearn.com/go/services/api/soap"
        count = (1, 30, 60)[number % 3] + number % 7
        odd = "<progress>1</progress>" * (number % 5 == 0)
        fields = "<accessDate>2022-07-14</accessDate><certificate><issueDate>2022-07-15</issueDate>"
        records = "".join(
            f"<enrollment>{IDS.format(f'{number}-{i}')}{fields}</certificate>{odd}</enrollment>"
            for i in range(count)
        )
        text = envelope.format("http://schemas.xmlsoap.org/soap/envelope/", payload, records)
        text = text.replace("<E ", "<Envelope ")
        end = "</GetEnrollmentsResult></Body></Envelope>"
        return (text + end).encode(), [f"e{number}-{i}" for i in range(count)]

    barrier = threading.Barrier(4)

    def work(worker: int) -> int:
        barrier.wait()
        read = 0
        for number in range(worker, 4_000, 4):
            body, expected = document(number)
            decoder = decoders[number // 4 % 2]
            decoded = decode_document(body, flattener, decoder)
            assert isinstance(decoded, Decoded)
            if number // 4 % 2:
                got = [key for batch in decoded.rows for key in batch.column(0).to_pylist()]
            else:
                got = [row.enrollment_id for row in decoded.rows]
            assert got == expected
            read += 1
        return read

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(work, range(4))) == 4_000


def test_no_thread_sees_the_parser_or_the_stylesheets_of_another() -> None:
    """They would be corrupted seldom, and then without a word."""
    flattener = Flattener()

    def mine() -> tuple[object, object]:
        return flattener._parsers.parser, flattener._stylesheets.by_dialect

    with ThreadPoolExecutor(1) as pool:
        theirs = pool.submit(mine).result()
    assert all(one is not other for one, other in zip(mine(), theirs, strict=True))
    assert all(one is other for one, other in zip(mine(), mine(), strict=True))


@walked
def test_rows_that_are_not_wanted_are_dropped_with_their_anomalies(
    answer: Callable[..., bytes], walked_bytes: int
) -> None:
    document = answer(
        records="".join(
            f"<enrollment><enrollmentId>e{i}</enrollmentId><courseId>c{i % 2}</courseId>"
            f"<learnerId>l{i % 3}</learnerId><accessDate>never</accessDate></enrollment>"
            for i in range(12)
        )
    )
    decoders: list[Decoder[Any]] = [ObjectDecoder(), ArrowDecoder()]
    for decoder, decoded in zip(decoders, both(document, walked_bytes=walked_bytes), strict=True):
        kept = decoder.keep(decoded, lambda learner, course: (learner, course) == ("l1", "c1"))
        assert [row[:3] for row in rows_of(kept)] == [("e1", "c1", "l1"), ("e7", "c1", "l1")]
        assert (kept.count, set(kept.learner_ids), set(kept.course_ids)) == (2, {"l1"}, {"c1"})
        assert [anomaly.enrollment_id for anomaly in kept.anomalies] == ["e1", "e7"]
        nothing = decoder.keep(decoded, lambda _learner, _course: False)
        assert nothing == Decoded([], 0, frozenset(), frozenset(), ())
