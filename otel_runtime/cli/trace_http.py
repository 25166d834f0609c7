"""One GET that answers JSON, with errors that say what to do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import OpenerDirector, ProxyHandler, Request, build_opener

from otel_runtime.errors import ConfigError

__all__ = ["base_url", "get_json"]

_TIMEOUT_S = 15.0
_SIZE_LIMIT = 256 << 20
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


def base_url(given: str, *, option: str, example: str) -> str:
    """The address without a slash at its end.

    Args:
        given: What was typed.
        option: The option it was typed after, for the error.
        example: A right one, for the error.

    Raises:
        ConfigError: It is no http or https address.
    """
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        # Half an IPv6 address, or a port that is none.
        usable = False
    if not usable:
        raise ConfigError.of("T010", f"expected an address such as `{example}`, got `{given}`", option)
    return given.rstrip("/")


def get_json(url: str, query: Mapping[str, str], headers: Mapping[str, str]) -> object | None:
    """The parsed answer; None when the server says that there is no such thing (404).

    Args:
        url: Full address without a query.
        query: Parameters; empty values are left out.
        headers: Sent along.

    Raises:
        ConfigError: Nothing answers there, it refuses, or what answers is no JSON.
    """
    words = urlencode({key: value for key, value in query.items() if value})
    # base_url let only http and https through.
    request = Request(f"{url}?{words}" if words else url, headers={"Accept": "application/json", **headers})  # noqa: S310
    try:
        with _opener(url).open(request, timeout=_TIMEOUT_S) as answer:
            body = answer.read(_SIZE_LIMIT + 1)
    except HTTPError as error:
        with error:
            if error.code == 404:
                return None
            raise _refusal(error, url) from None
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise ConfigError.of("T011", f"nothing answers here ({reason}); is the server running, and is this its address?", url) from None
    except (HTTPException, ValueError) as error:
        what = type(error).__name__
        raise ConfigError.of("T011", f"what answers here speaks no HTTP ({what}); is this the port of the query API?", url) from None
    if len(body) > _SIZE_LIMIT:
        raise ConfigError.of(
            "T012", f"the answer is larger than {_SIZE_LIMIT >> 20} MiB; ask for fewer traces with --limit or --since", url
        )
    try:
        parsed: object = json.loads(body)
    except (ValueError, RecursionError):
        raise ConfigError.of("T013", "expected JSON, got something else; is this the address of the query API?", url) from None
    return parsed


def _refusal(error: HTTPError, url: str) -> ConfigError:
    try:
        body = error.read(300)
    except (HTTPException, OSError):
        body = b""
    # A server's words may hold what a terminal would obey.
    said = " ".join("".join(char if char.isprintable() else " " for char in body.decode("utf-8", "replace")).split())
    mend = "; give credentials with --header 'Authorization: Bearer ...'" if error.code in (401, 403) else ""
    return ConfigError.of("T014", f"the server refused with {error.code}: {said or error.reason}{mend}", url)


def _opener(url: str) -> OpenerDirector:
    # A proxy cannot reach this machine's loopback.
    return build_opener(ProxyHandler({})) if urlsplit(url).hostname in _LOOPBACK else build_opener()
