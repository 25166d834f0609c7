"""Addresses, URLs, paths and account numbers, compared by their parts: one spelling for all the ways in which people write them.

`Bob@Corp.example` is `bob@corp.example`, `www.a.example` is a page of `https://www.a.example/`, `./notes/a.md` is `notes/a.md`, and
`DE89 3704 0044 0532 0130 00` is `DE89370400440532013000`. All parts must be there: half of an account number is another one.

Every expression here takes linear time: a run of characters is entered at its beginning only, and never given back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

__all__ = ["mentioned", "spellings"]

_MAX_VALUE: Final = 2048
_MAIL: Final = re.compile(
    r"(?<![\w.+%'@/-])(?P<local>[A-Za-z0-9._%+'-]{1,64}+)@(?P<domain>(?:[A-Za-z0-9-]{1,63}+\.){1,10}[A-Za-z]{2,63}+)(?![\w@-]|\.\w)"
)
_NAMED: Final = re.compile(r"[^<>@\x00-\x1f]{0,128}<([^<>@\s]{1,64}@[^<>@\s]{1,255})>")
_HOST: Final = r"(?P<host>(?:[A-Za-z0-9-]{1,63}+\.){1,10}[A-Za-z][A-Za-z0-9-]{1,62}+)(?::(?P<port>[0-9]{1,5}))?"
_REST: Final = r"(?P<rest>[/?#][^\s<>\"'`{}|\\^\x00-\x1f]*+)?"
_URL: Final = re.compile(
    rf"(?<![\w@./%+-])(?:(?P<scheme>https?)://|(?=www\.)|(?=[A-Za-z0-9.-]{{1,253}}+/)){_HOST}{_REST}(?![\w@])", re.IGNORECASE
)
_PATH: Final = re.compile(r"(?<![\w.+/~@:%-])[\w.+~-]*+/[\w.+~/-]*+")
_IBAN: Final = re.compile(
    r"(?<![A-Za-z0-9])[A-Za-z]{2}[0-9]{2}(?:(?P<compact>[A-Za-z0-9]{8,30}+)|(?P<grouped>(?:(?P<by>[ -])[A-Za-z0-9]{4})"
    r"(?:(?P=by)[A-Za-z0-9]{4}){1,6}(?:(?P=by)[A-Za-z0-9]{1,3})?))(?![A-Za-z0-9])"
)
_GROUPS: Final = re.compile(
    r"(?<![\w.,+-])(?:[0-9]{8,34}+|[0-9]{2,6}+(?P<by>[ -])[0-9]{2,6}+(?:(?P=by)[0-9]{2,6}+){0,9}+(?!(?P=by)[0-9]))(?![\w]|[.,-][0-9])"
)
_DIGITS: Final = re.compile(r"[0-9]{6,34}")
_TRAILING: Final = ".,;:!?)]'\""
_PORTS: Final = {"http": "80", "https": "443"}


def mentioned(text: str) -> Iterator[str]:
    """What a text mentions, in the one spelling; the same thing may come more than once.

    Args:
        text: Any text; what is looked at is bounded by its caller.
    """
    if "@" in text:
        yield from (_mail(found) for found in _MAIL.finditer(text))
    if "." in text:
        for found in _URL.finditer(text):
            yield from _url(found)
    if "/" in text:
        yield from (path for found in _PATH.finditer(text) if (path := _path(found.group())) is not None)
    yield from _accounts(text)


def _accounts(text: str) -> Iterator[str]:
    inside = 0
    ibans = _IBAN.finditer(text)
    iban = next(ibans, None)
    for found in _GROUPS.finditer(text):
        while iban is not None and iban.start() < found.start():
            yield _account(iban.group())
            inside, iban = iban.end(), next(ibans, None)
        # The digits of an account number are no account number of their own.
        if found.start() >= inside:
            yield _account(found.group())
    while iban is not None:
        yield _account(iban.group())
        iban = next(ibans, None)


def spellings(value: str) -> tuple[str, ...]:
    """The spellings of which one must be mentioned, when a value is an address, a URL, a path or an account number; else none.

    Args:
        value: One value, whole.
    """
    if len(value) > _MAX_VALUE:
        return ()
    named = _NAMED.fullmatch(value)
    if (found := _MAIL.fullmatch(named.group(1) if named is not None else value)) is not None:
        return (_mail(found),)
    if "." in value and (found := _URL.fullmatch(value)) is not None:
        return _asked_url(found)
    if "." in value and (found := _BARE.fullmatch(value)) is not None:
        return (f"host:{value.lower()}",)
    if "/" in value and _PATH.fullmatch(value) is not None:
        path = _path(value)
        return () if path is None else (path,)
    if _IBAN.fullmatch(value) is not None or _GROUPS.fullmatch(value) is not None or _DIGITS.fullmatch(value) is not None:
        return (_account(value),)
    return ()


_BARE: Final = re.compile(rf"{_HOST}", re.IGNORECASE)


def _mail(found: re.Match[str]) -> str:
    return f"mail:{found['local']}@{found['domain']}".lower()


def _url(found: re.Match[str]) -> Iterator[str]:
    scheme, host, rest = _parts(found, found["rest"] and found["rest"].rstrip(_TRAILING))
    yield f"url:{scheme}:{host}{rest}"
    yield f"host:{host}"


def _asked_url(found: re.Match[str]) -> tuple[str, ...]:
    scheme, host, rest = _parts(found, found["rest"])
    if not scheme and not found["rest"]:
        return (f"host:{host}",)
    schemes = (scheme, "") if scheme else ("", "http", "https")
    return tuple(f"url:{each}:{host}{rest}" for each in schemes)


def _parts(found: re.Match[str], rest: str | None) -> tuple[str, str, str]:
    """Scheme (empty where none was written), host with a port that is not the usual one, and what follows; a fragment is never sent."""
    scheme, port = (found["scheme"] or "").lower(), found["port"]
    host = found["host"].lower() + (f":{port}" if port is not None and port != _PORTS.get(scheme or "https") else "")
    sent = (rest or "").partition("#")[0]
    return scheme, host, sent if sent.startswith("/") else f"/{sent}"


def _path(text: str) -> str | None:
    """The path without what changes nothing; None for one that goes up, which only the file system can read."""
    parts = [part for part in text.rstrip(".").split("/") if part not in ("", ".")]
    if not parts or ".." in parts or "~" in parts:
        return None
    return f"path:{'/' if text.startswith('/') else ''}{'/'.join(parts)}"


def _account(text: str) -> str:
    return f"account:{text.replace(' ', '').replace('-', '').upper()}"
