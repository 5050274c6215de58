import pytest

from bulkfetch.errors import UsageError
from bulkfetch.export.sinks.choose import choose_sink, default_journal
from bulkfetch.export.sinks.postgres.url import is_database_url, parse_url

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "conninfo", "schema", "shown"),
    [
        ("postgresql://h/d", "postgresql://h/d", None, "postgresql://h/d"),
        ("postgres://me@h:5433/d?schema=lms", "postgresql://me@h:5433/d", "lms", "postgresql://h:5433/d?schema=lms"),
        ("postgres:///d", "postgresql:///d", None, "postgresql:///d"),
        ("postgresql://postgres:@/d?host=/run/pg", "postgresql://postgres:@/d", None, "postgresql:///d"),
        ("POSTGRESQL://h1:1,h2:2/d", "postgresql://h1:1,h2:2/d", None, "postgresql://h1:1,h2:2/d"),
        ("postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d", None, "postgresql://[::1]:5432/d"),
        ("postgresql://?service=lms", "postgresql://", None, "postgresql://"),
        ("postgresql://h/d?schema=%C3%9Cber%20%22x%22", "postgresql://h/d", 'Über "x"', "postgresql://h/d?schema=%C3%9Cber%20%22x%22"),
    ],
)  # fmt: skip
def test_the_schema_is_taken_out_and_the_user_not_shown(
    url: str, conninfo: str, schema: str | None, shown: str
) -> None:
    assert is_database_url(url)
    parsed = parse_url(url, {})
    assert parsed.conninfo.partition("?")[0] == conninfo
    assert "schema" not in parsed.conninfo
    assert (parsed.schema, parsed.shown) == (schema, shown)


def test_parameters_go_to_libpq_and_its_waits_have_an_end() -> None:
    query = parse_url("postgresql://h/d?sslmode=verify-full&host=%2Frun%2Fpg", {}).conninfo
    assert "sslmode=verify-full" in query
    assert "host=%2Frun%2Fpg" in query
    assert "connect_timeout=15" in query
    assert "connect_timeout=3" in parse_url("postgresql://h/d?connect_timeout=3", {}).conninfo
    patient = parse_url("postgresql://h/d", {"PGCONNECT_TIMEOUT": "60"}).conninfo
    assert "connect_timeout" not in patient


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://me:{SECRET}@h/d",
        f"postgres://:{SECRET}@h/d",
        f"POSTGRES://me:{SECRET}@h/d",
        f"postgresql://me:{SECRET}/x@h/d",
        f"postgresql://me:{SECRET}?x@h/d",
        f"postgresql://me:1?{SECRET}=1@h/d",
        f"postgresql://me:{SECRET}#x@h/d",
        f"postgresql://me:x@{SECRET}@h/d",
        f"postgresql://me@h/d?password={SECRET}",
        f"postgresql://me@h/d?sslmode=require&%70assword={SECRET}",
        f"postgresql://me@h/d?sslpassword={SECRET}",
        f"postgresql://me@h/d?{SECRET}",
        f"postgresql://me:{SECRET}",
    ],
)
def test_a_password_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_url(url, {})
    assert SECRET not in str(caught.value)


def test_no_parameter_hides_in_the_name_of_another() -> None:
    conninfo = parse_url("postgresql://h/d?a%26password%3Dx=1", {}).conninfo
    assert "password=" not in conninfo


def test_the_refusal_says_where_a_password_goes() -> None:
    with pytest.raises(UsageError, match=r"PGPASSWORD, ~/\.pgpass or .* PGSERVICEFILE"):
        parse_url(f"postgresql://me:{SECRET}@h/d", {})


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://h:port/d", "port"),
        ("postgresql://h/d?schema=", "schema in the database URL is empty"),
        ("postgresql://h/d?schema=a&schema=b", "'schema' twice"),
        ("postgresql://h/d?sslmode", "name=value"),
    ],
)
def test_a_url_that_cannot_be_read_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        parse_url(url, {})


@pytest.mark.parametrize("url", [f"mysql://me:{SECRET}@h/d", f"postgresql+psycopg://me:{SECRET}@h"])
def test_other_databases_are_refused_without_repeating_the_url(url: str) -> None:
    with pytest.raises(UsageError, match="not of PostgreSQL") as caught:
        choose_sink(url, None)  # type: ignore[arg-type]
    assert SECRET not in str(caught.value)


def test_the_journal_of_a_database_has_a_name_of_its_own() -> None:
    assert str(default_journal("a/b.csv")) == "a/b.csv.bulkfetch"
    assert str(default_journal("postgres://h/d")) == "enrollments.postgresql.bulkfetch"
