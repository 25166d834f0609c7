"""URLs, read so narrowly that browsers, HTTP clients and servers cannot read them differently. Anything else is no URL here.

Ours and not a library's: the standard one repairs what it is given (it drops newlines, takes any port text), and the WHATWG ones turn
backslashes into slashes and `0x7f.1` into an address. A rule must know what the tool's client will do with the text, whichever that is.
Grammar: RFC 3986, section 3, without userinfo, without registered names other than host names, ASCII only.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from otel_runtime.policy.truth import Tri, all_of

if TYPE_CHECKING:
    from otel_runtime.policy.scope import Scope
    from otel_runtime.policy.terms import UrlParts

__all__ = ["Url", "is_host_pattern", "parse_url", "url"]

MAX_URL: Final = 4096
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443, "ftp": 21}
# Printable ASCII without the characters that RFC 3986 has no place for and that readers repair: space " < > \ ^ ` { | }
_TEXT: Final = re.compile(r"[!#-;=?-\[\]_a-z~]+")
_SHAPE: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(.*)")
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_HOST: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
# The last label of a name starts with a letter and is no hexadecimal number; else every resolver has its own idea of it.
_NUMERIC: Final = re.compile(r"(?:.*\.)?(?:[0-9][^.]*|0[xX][^.]*)")
# Encodings of what means something in a path: % . / \ ; control characters, and letters that need no encoding at all.
_ENCODED: Final = re.compile(
    r"%(?![0-9A-Fa-f]{2})|%(?:[01][0-9A-Fa-f]|7[Ff]|2[5EeFfDd]|3[0-9Bb]|4[1-9A-Fa-f]|5[0-9AaCcFf]|6[1-9A-Fa-f]|7[0-9AaEe])"
)


@dataclass(frozen=True, slots=True)
class Url:
    """The parts of a URL that rules ask.

    Args:
        scheme: In lower case.
        host: In lower case; an IP address in its one plain spelling.
        port: As written or the scheme's own; None when neither is known.
        path: As written; None when readers could take it differently.
    """

    scheme: str
    host: str
    port: int | None
    path: str | None


def parse_url(text: str) -> Url | None:
    """The parts; None when the text is not one plain absolute URL."""
    if len(text) > MAX_URL or _TEXT.fullmatch(text) is None:
        return None
    shape = _SHAPE.fullmatch(text)
    if shape is None:
        return None
    scheme, authority, path, _rest = shape.groups()
    name, colon, digits = authority.rpartition(":") if not authority.endswith("]") else (authority, "", "")
    host = _host(name if colon else authority)
    if host is None or (colon and not _is_port(digits)):
        return None
    port = int(digits) if colon else _PORTS.get(scheme.lower())
    return Url(scheme.lower(), host, port, _path(path))


def _is_port(digits: str) -> bool:
    return digits.isascii() and digits.isdigit() and len(digits) <= 5 and digits[0] != "0" and int(digits) <= 0xFFFF


def _host(text: str) -> str | None:
    if text.startswith("[") and text.endswith("]"):
        return _address(text[1:-1], 6)
    if len(text) > 253 or _HOST.fullmatch(text) is None:
        return None
    return _address(text, 4) if _NUMERIC.fullmatch(text) else text.lower()


def _address(text: str, version: int) -> str | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    # 010.0.0.1, ::ffff:1.2.3.4 and zone ids have a second meaning somewhere.
    plain = str(address)
    mapped = isinstance(address, ipaddress.IPv6Address) and (address.ipv4_mapped is not None or address.scope_id is not None)
    if address.version != version or mapped or (version == 4 and plain != text):
        return None
    return plain if version == 4 else f"[{plain}]"


def _path(text: str) -> str | None:
    if not text:
        return "/"
    if "//" in text or _ENCODED.search(text) is not None:
        return None
    # Some servers cut parameters off each part before they look for `..`.
    return None if any(part.partition(";")[0] in {".", ".."} for part in text.split("/")) else text


def is_host_pattern(text: str) -> bool:
    """True for a host, or `*.` and a domain: one or more labels before it."""
    bare = text.removeprefix("*.")
    return _host(bare) == bare.lower() and (bare == text or ("." in bare and _NUMERIC.fullmatch(bare) is None and not bare.startswith("[")))


def url(operand: object) -> Callable[[object, Scope], Tri]:
    """Whether every part that the rule asks fits."""
    parts: UrlParts = operand  # type: ignore[assignment]  # the model admits nothing else
    tests = tuple(_tests(parts))

    def check(value: object, scope: Scope) -> Tri:
        known = scope.once(("url", value), 8 + len(value) // 16, partial(parse_url, value)) if isinstance(value, str) else None
        return None if known is None else all_of(test(known) for test in tests)

    return check


def _tests(parts: UrlParts) -> list[Callable[[Url], Tri]]:
    tests: list[Callable[[Url], Tri]] = []
    if parts.scheme is not None:
        schemes = frozenset(parts.scheme)
        tests.append(lambda known: known.scheme in schemes)
    if parts.host is not None:
        exact = frozenset(host.lower() for host in parts.host if not host.startswith("*"))
        suffixes = tuple(host[1:].lower() for host in parts.host if host.startswith("*"))
        tests.append(lambda known: known.host in exact or known.host.endswith(suffixes))
    if parts.port is not None:
        ports = frozenset(parts.port)
        tests.append(lambda known: None if known.port is None else known.port in ports)
    if parts.path is not None:
        tests.append(_path_test(parts.path))
    return tests


def _path_test(patterns: tuple[str, ...]) -> Callable[[Url], Tri]:
    exact = frozenset(pattern for pattern in patterns if not pattern.endswith("/*"))
    below = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("/*"))
    return lambda known: None if known.path is None else known.path in exact or known.path.startswith(below)
