"""What a caller may set of a fetch, with the defaults."""

import math
from dataclasses import dataclass, field
from pathlib import Path

from bulkfetch.errors import SettingError
from bulkfetch.http.address import SOAP_PATH, TOKEN_PATH, check_proxy_url
from bulkfetch.http.transport import Limits
from bulkfetch.pace.retry import RetryPolicy
from bulkfetch.plan.shapes import Shape


@dataclass(frozen=True, slots=True)
class Options:
    """How to fetch.

    Attributes:
        batch_size: learners a call, never more however it is asked for, or courses where calls
            name no learners; None to find out what pays.
        shape: the way of asking, such as "courses"; chosen by what it costs if not given.
        workers: calls in flight; None to find out how many the service bears.
        max_workers: most calls in flight where that is found out; None is 64.
        rate: most calls a second, whatever they are made for, but for requests for tokens; None for
            no bound but the service's.
        max_outage_s: seconds that the service may be out before the run gives up.
        deadline_s: seconds after which no further call begins; None for any time.
        max_quarantined: end the run if more ids or pairs than this are rejected; None for any
            number.
        hedge: make the slowest calls a second time and take the first answer: at most 5 % more
            calls, and none while the service bears fewer than before.
        limits: seconds and bytes of one call.
        retry: attempts and backoff of one batch.
        proxy: URL of a proxy; the environment's are not used.
        ca_bundle: PEM file of certificate authorities, instead of the system's.
        soap_path: where SOAP calls go, below the base URL.
        token_path: where tokens are asked for, below the base URL.

    Raises:
        UsageError: a value is out of range.
    """

    batch_size: int | None = None
    shape: str | None = None
    workers: int | None = None
    max_workers: int | None = None
    rate: float | None = None
    max_outage_s: float = 600.0
    deadline_s: float | None = None
    max_quarantined: int | None = None
    hedge: bool = False
    limits: Limits = field(default_factory=Limits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    proxy: str | None = None
    ca_bundle: Path | None = None
    soap_path: str = SOAP_PATH
    token_path: str = TOKEN_PATH

    def __post_init__(self) -> None:
        self._check_pace()
        if self.shape is not None and self.shape not in set(Shape):
            raise SettingError(
                "{} must be one of {}, not {!r}.", ["shape"], ", ".join(Shape), self.shape
            )
        for name, value in (
            ("batch_size", 1 if self.batch_size is None else self.batch_size),
            ("workers", 1 if self.workers is None else self.workers),
            ("max_workers", 1 if self.max_workers is None else self.max_workers),
            ("retry.attempts", self.retry.attempts),
            ("limits.answer_bytes", self.limits.answer_bytes),
        ):
            if not isinstance(value, int) or value < 1:
                raise SettingError(
                    "{} must be a whole number of at least 1, not {!r}.", [name], value
                )
        if self.workers is not None and self.workers > (self.max_workers or self.workers):
            raise SettingError(
                "{0} ({2:,}) is more than {1} ({3:,}).",
                ["workers", "max_workers"],
                self.workers,
                self.max_workers,
            )
        for name, seconds in (
            ("limits.connect_s", self.limits.connect_s),
            ("limits.read_s", self.limits.read_s),
            ("limits.total_s", self.limits.total_s),
            ("deadline_s", 1.0 if self.deadline_s is None else self.deadline_s),
        ):
            if not seconds > 0:
                raise SettingError("{} must be more than 0 seconds, not {!r}.", [name], seconds)
        if self.proxy is not None:
            check_proxy_url(self.proxy)
        for name, path in (("soap_path", self.soap_path), ("token_path", self.token_path)):
            if not path.startswith("/"):
                raise SettingError("{} must begin with a slash, not {!r}.", [name], path)

    def _check_pace(self) -> None:
        if self.rate is not None and not 0 < self.rate < math.inf:
            raise SettingError(
                "{} must be more than 0 calls a second, not {!r}.", ["rate"], self.rate
            )
        if not 0 <= self.max_outage_s < math.inf:
            raise SettingError(
                "{} must be a number of seconds, 0 or more, not {!r}.",
                ["max_outage_s"],
                self.max_outage_s,
            )
        most = self.max_quarantined
        if most is not None and (not isinstance(most, int) or most < 0):
            raise SettingError(
                "{} must be a whole number, 0 or more, not {!r}.", ["max_quarantined"], most
            )
