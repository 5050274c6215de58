"""What a caller may set of a fetch, with the defaults."""

from dataclasses import dataclass, field
from pathlib import Path

from bulkfetch.errors import UsageError
from bulkfetch.http.address import SOAP_PATH, TOKEN_PATH, check_proxy_url
from bulkfetch.http.transport import Limits
from bulkfetch.pace.retry import RetryPolicy
from bulkfetch.plan.cost import Shape


@dataclass(frozen=True, slots=True)
class Options:
    """How to fetch.

    Attributes:
        batch_size: ids a call, along the side that calls run along.
        shape: the way of asking, such as "courses"; chosen by what it costs if not given.
        workers: most calls in flight.
        limits: seconds and bytes of one call.
        retry: attempts and backoff of one batch.
        proxy: URL of a proxy; the environment's are not used.
        ca_bundle: PEM file of certificate authorities, instead of the system's.
        soap_path: where SOAP calls go, below the base URL.
        token_path: where tokens are asked for, below the base URL.

    Raises:
        UsageError: a value is out of range.
    """

    batch_size: int = 100
    shape: str | None = None
    workers: int = 10
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    proxy: str | None = None
    ca_bundle: Path | None = None
    soap_path: str = SOAP_PATH
    token_path: str = TOKEN_PATH

    def __post_init__(self) -> None:
        if self.shape is not None and self.shape not in set(Shape):
            raise UsageError(f"shape must be one of {', '.join(Shape)}, not {self.shape!r}.")
        for name, value in (
            ("batch_size", self.batch_size),
            ("workers", self.workers),
            ("retry.attempts", self.retry.attempts),
            ("limits.answer_bytes", self.limits.answer_bytes),
        ):
            if not isinstance(value, int) or value < 1:
                raise UsageError(f"{name} must be a whole number of at least 1, not {value!r}.")
        for name, seconds in (
            ("limits.connect_s", self.limits.connect_s),
            ("limits.read_s", self.limits.read_s),
            ("limits.total_s", self.limits.total_s),
        ):
            if not seconds > 0:
                raise UsageError(f"{name} must be more than 0 seconds, not {seconds!r}.")
        if self.proxy is not None:
            check_proxy_url(self.proxy)
        for name, path in (("soap_path", self.soap_path), ("token_path", self.token_path)):
            if not path.startswith("/"):
                raise UsageError(f"{name} must begin with a slash, not {path!r}.")
