import copy
import pickle
from collections.abc import Callable

import pytest

from bulkfetch.errors import (
    CredentialsError,
    FailedIds,
    IncompleteError,
    OverloadedError,
    SettingError,
    SinkError,
    UsageError,
)
from bulkfetch.http.transport import Limits
from bulkfetch.options import Options

FAILED = FailedIds(("a", "b", "c", "d"), None, "The service failed (500).", 6)


@pytest.mark.parametrize(
    "error",
    [
        IncompleteError([FAILED], []),
        OverloadedError("The service asks for fewer calls (429).", status=429, retry_after_s=3.0),
        CredentialsError("The service rejects the token (401).", status=401),
        SinkError("The output cannot be written."),
        SettingError("{} must begin with a slash, not {!r}.", ["soap_path"], "{x}"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_passes_between_processes_whole(error: Exception) -> None:
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again) == vars(error)


def test_pairs_that_are_rejected_are_counted_apart_from_ids() -> None:
    pair = FailedIds(("a",), ("c",), "Wrong parameters.", 1)
    assert "1 id and 2 pairs quarantined" in str(IncompleteError([FAILED, pair, pair], []))
    assert "1 pair quarantined" in str(IncompleteError([pair], []))


def test_an_incomplete_run_names_the_first_ids_and_counts_the_rest() -> None:
    text = str(IncompleteError([], [FAILED]))
    assert ": 4 learners failed (first: " in text
    assert "4 learners (a, b, c, …): The service failed (500)." in text


def test_what_failed_is_counted_in_ids_however_many_calls_were_to_ask_for_it() -> None:
    batches = [FailedIds((f"{n}a", f"{n}b"), ("c", "d"), "out", 1) for n in range(3)]
    assert ": pairs of 6 learners and 2 courses failed (first: " in str(
        IncompleteError([], batches)
    )
    mixed = [FAILED, FailedIds(None, ("c",), "out", 1), FailedIds(None, ("c", "e"), "out", 1)]
    assert ": 4 learners and 2 courses failed (first: " in str(IncompleteError([], mixed))
    assert ": the whole account failed (first: " in str(
        IncompleteError([], [FailedIds(None, None, "out", 1)])
    )


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Options(deadline_s=0.0), "deadline_s must be more than 0 seconds, not 0.0."),
        (lambda: Options(workers=5, max_workers=3), "workers (5) is more than max_workers (3)."),
        (
            lambda: Options(limits=Limits(answer_bytes=0)),
            "limits.answer_bytes must be a whole number of at least 1, not 0.",
        ),
        (lambda: Options(soap_path="{0}"), "soap_path must begin with a slash, not '{0}'."),
    ],
    ids=["deadline", "workers", "answer", "path"],
)
def test_a_setting_that_cannot_be_is_named_as_the_library_has_it(
    make: Callable[[], Options], sentence: str
) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert str(refused.value) == sentence
