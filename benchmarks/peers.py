"""What users would otherwise write, each written well, and the floor that nobody can go below.

All ask for the same batches, at most `WORKERS` at once, and give typed values: dates as dates,
flags as booleans, one dictionary an enrollment (zeep: its own objects). None removes duplicates,
checks that rows belong, retries, or notices a truncated answer beyond what its parser refuses.
"""

import asyncio
import threading
import xml.etree.ElementTree as ET
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

WORKERS = 10
PATH = "/api/v2/soap/2.0"
TOKEN = "benchmark-token"
HEADERS = {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '"GetEnrollments"'}
NAMESPACE = "https://ispringlearn.com/go/services/api/soap"
WSDL = Path(__file__).parent / "enrollments.wsdl"

_PARSERS: dict[str, Callable[[str], Any]] = {
    "enrollmentId": str,
    "courseId": str,
    "learnerId": str,
    "accessDate": date.fromisoformat,
    "dueDate": date.fromisoformat,
    "expirationDate": date.fromisoformat,
    "shouldLockAfterDueDate": {"0": False, "1": True, "false": False, "true": True}.__getitem__,
    "enrollmentTypeGroup": int,
    "issuedCertificateId": str,
    "issueDate": datetime.fromisoformat,
    "expiryDate": datetime.fromisoformat,
}
_BY_TAG = {f"{{{NAMESPACE}}}{name}": (name, parse) for name, parse in _PARSERS.items()}
_RECORD = f"{{{NAMESPACE}}}enrollment"
_CERTIFICATE = f"{{{NAMESPACE}}}certificate"


def envelope(learners: Sequence[str]) -> bytes:
    """Write the request as a user would: a string."""
    ids = "".join(f"<id>{escape(learner)}</id>" for learner in learners)
    return (
        '<?xml version="1.0" encoding="utf-8"?>'
        '<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" '
        f'xmlns="{NAMESPACE}"><SOAP-ENV:Body><GetEnrollmentsRequest><credentials>'
        f"<token>{TOKEN}</token></credentials><learnerIds>{ids}</learnerIds>"
        "</GetEnrollmentsRequest></SOAP-ENV:Body></SOAP-ENV:Envelope>"
    ).encode()


def read_records(root: Any) -> list[dict[str, Any]]:
    """Walk a tree of lxml or ElementTree and read its enrollments as dictionaries."""
    records = []
    for element in root.iter(_RECORD):
        record = {}
        for child in element:
            known = _BY_TAG.get(child.tag)
            if known is not None:
                name, parse = known
                record[name] = parse(child.text)
            elif child.tag == _CERTIFICATE:
                for inner in child:
                    name, parse = _BY_TAG[inner.tag]
                    record[name] = parse(inner.text)
        records.append(record)
    return records


async def _gather(
    batches: Sequence[Sequence[str]], fetch: Callable[[Sequence[str]], Awaitable[int]]
) -> int:
    limit = asyncio.Semaphore(WORKERS)

    async def one(learners: Sequence[str]) -> int:
        async with limit:
            return await fetch(learners)

    return sum(await asyncio.gather(*map(one, batches)))


async def with_floor(url: str, batches: Sequence[Sequence[str]]) -> int:
    """Download with aiohttp and parse with libxml2; read nothing."""
    import aiohttp  # noqa: PLC0415 - each client process imports its own
    from lxml import etree  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:

        async def fetch(learners: Sequence[str]) -> int:
            async with session.post(url + PATH, data=envelope(learners), headers=HEADERS) as answer:
                return len(etree.fromstring(await answer.read())[0][0])

        return await _gather(batches, fetch)


async def with_bare_aiohttp(url: str, batches: Sequence[Sequence[str]]) -> int:
    """Post and read with aiohttp, nothing more; counts answers."""
    import aiohttp  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:

        async def fetch(learners: Sequence[str]) -> int:
            async with session.post(url + PATH, data=envelope(learners), headers=HEADERS) as answer:
                return bool(await answer.read())

        return await _gather(batches, fetch)


async def with_aiohttp_lxml(url: str, batches: Sequence[Sequence[str]]) -> int:
    """Gather calls of aiohttp, and walk the DOM of lxml."""
    import aiohttp  # noqa: PLC0415
    from lxml import etree  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:

        async def fetch(learners: Sequence[str]) -> int:
            async with session.post(url + PATH, data=envelope(learners), headers=HEADERS) as answer:
                return len(read_records(etree.fromstring(await answer.read())))

        return await _gather(batches, fetch)


async def with_httpx_lxml(url: str, batches: Sequence[Sequence[str]]) -> int:
    """Gather calls of httpx, and walk the DOM of lxml."""
    import httpx  # noqa: PLC0415
    from lxml import etree  # noqa: PLC0415

    async with httpx.AsyncClient(timeout=60) as client:

        async def fetch(learners: Sequence[str]) -> int:
            answer = await client.post(url + PATH, content=envelope(learners), headers=HEADERS)
            return len(read_records(etree.fromstring(answer.content)))

        return await _gather(batches, fetch)


async def with_requests_threads(url: str, batches: Sequence[Sequence[str]]) -> int:
    """Map calls of requests over a pool of threads, and walk the tree of ElementTree."""
    import requests  # noqa: PLC0415

    own = threading.local()

    def fetch(learners: Sequence[str]) -> int:
        if not hasattr(own, "session"):
            own.session = requests.Session()
        answer = own.session.post(url + PATH, data=envelope(learners), headers=HEADERS, timeout=60)
        return len(read_records(ET.fromstring(answer.content)))

    with ThreadPoolExecutor(WORKERS) as pool:
        return sum(pool.map(fetch, batches))


async def with_zeep(url: str, batches: Sequence[Sequence[str]]) -> int:
    """Gather calls of zeep's asynchronous client."""
    import httpx  # noqa: PLC0415
    import zeep  # noqa: PLC0415
    from zeep.proxy import AsyncServiceProxy  # noqa: PLC0415
    from zeep.transports import AsyncTransport  # noqa: PLC0415

    transport = AsyncTransport(client=httpx.AsyncClient(timeout=60))
    async with zeep.AsyncClient(str(WSDL), transport=transport) as client:
        binding = client.wsdl.bindings[f"{{{NAMESPACE}}}Soap"]
        # Its own `create_service` gives the synchronous proxy.
        service = AsyncServiceProxy(client, binding, address=url + PATH)

        async def fetch(learners: Sequence[str]) -> int:
            rows = await service.GetEnrollments(
                credentials={"token": TOKEN}, learnerIds={"id": list(learners)}
            )
            return len(rows)

        return await _gather(batches, fetch)


PEERS: dict[str, Callable[[str, Sequence[Sequence[str]]], Awaitable[int]]] = {
    "floor": with_floor,
    "bare aiohttp": with_bare_aiohttp,
    "aiohttp + lxml": with_aiohttp_lxml,
    "httpx + lxml": with_httpx_lxml,
    "requests + ElementTree": with_requests_threads,
    "zeep": with_zeep,
}

# With what httpx imports as it is used.
_HTTPX = ("httpx", "certifi", "h11", "httpcore", "anyio._backends._asyncio")
LIBRARIES: dict[str, tuple[str, ...]] = {
    "floor": ("aiohttp", "lxml.etree"),
    "bare aiohttp": ("aiohttp",),
    "aiohttp + lxml": ("aiohttp", "lxml.etree"),
    "httpx + lxml": (*_HTTPX, "lxml.etree"),
    "requests + ElementTree": ("requests", "netrc"),
    "zeep": (*_HTTPX, "zeep.proxy", "zeep.transports", "zeep.wsdl.bindings"),
}
"""What each imports: not to be measured, so it is imported before."""
