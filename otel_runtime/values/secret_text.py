"""What a credential looks like in text: RE2 expressions, and the text of a question to a person with what looks like one concealed.

For telemetry the whole match goes (`telemetry/redaction`). A person who approves a call must see whatever acts, so there only what cannot act is
concealed: letters, digits and the signs of a token, never what a shell or a query would read as more than a word.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from otel_runtime.values.re2_gate import through, watch_exit

__all__ = ["ANY", "ASSIGNED", "COOKIE", "HEADER", "SHAPES", "SIGNED_URL", "URL_LOGIN", "WHOLE", "concealed_in"]

# What stands before a credential, the credential, and what stands behind it.
_Split = Callable[[Any], tuple[str, str, str]]
# The whole match is masked. Every alternative begins with fixed letters, so that one pass over the text finds all of them.
SHAPES = (
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----[^-]*(?:-----END [A-Z ]{0,40}PRIVATE KEY(?: BLOCK)?-----)?",
    r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
    r"(?:sk|xai|pplx)-[A-Za-z0-9_-]{16,}",
    r"(?:ghp|gho|ghu|ghs|ghr|hf|gsk|npm|r8|shpat|shpss|dop_v1|whsec)_[A-Za-z0-9]{20,}",
    r"(?:github_pat|lsv2_pt|lsv2_sk)_[A-Za-z0-9_]{20,}",
    r"(?:glpat|GOCSPX|pypi)-[A-Za-z0-9_-]{16,}",
    r"(?:xox[abeoprs]|xapp)-[A-Za-z0-9-]{10,}",
    r"(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}\b",
    r"AIza[A-Za-z0-9_-]{30,}",
    r"ya29\.[A-Za-z0-9_-]{20,}",
    r"SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    r"(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}",
    # Words follow `basic` too: a digit, or more letters than a word has, tells a credential.
    r"(?i:bearer|basic) (?:[A-Za-z._~+/=-]*[0-9][A-Za-z0-9._~+/=-]{7,}|[A-Za-z._~+/=-]{24,})",
)
# What follows is masked and the first group stays. Backslashes and quotes: also inside JSON that is itself a string.
_OPEN = r"\\{0,3}[\"']?\s{0,4}[:=]\s{0,4}\\{0,3}[\"']?"
HEADER = rf"(?i)((?:proxy-)?authorization{_OPEN}(?:[a-z][a-z-]{{1,19}} )?)[^\s\"'\\,;]+"
COOKIE = rf"(?i)(cookie{_OPEN})[^\s=;\"'\\]+=[^\r\n\"'\\]+"
URL_LOGIN = r"(\b[A-Za-z][A-Za-z0-9+.-]{1,20}://)[^\s/@:]*:[^\s/@]+@"
SIGNED_URL = r"([?&](?:sig|signature|X-Amz-Signature|X-Goog-Signature)=)[^\s&\"']{8,}"
# Name, separator and value; a number behind `..._token` is a count or a rate, such as time_to_first_token.
ASSIGNED = (
    r"(?i)([A-Za-z0-9_-]{0,40})(password|passwd|passphrase|pwd|secret|api[_-]?key|access[_-]?key|account[_-]?key|private[_-]?key|token)"
    rf"({_OPEN})([^\s\"'\\,;&}}\]]+)"
)
# A letter before it makes it another word; what stands there is kept.
WHOLE = "(^|[^A-Za-z0-9_])(?:" + "|".join(SHAPES) + ")"
ANY = "|".join(f"(?:{part})" for part in (*SHAPES, HEADER, COOKIE, URL_LOGIN.replace(r"\b", ""), SIGNED_URL, ASSIGNED))
# What a shell, a query or a path would read as more than one word is shown: no white space, quote, `$`, bracket, `;`, `|`, `&`, `@` or `:`,
# no `/` or `~` in front, and no `/` beside a dot. Of a PEM block only lines of base64 are concealed.
_WORD = r"[A-Za-z0-9_+=%!-][A-Za-z0-9._~+=!%-]*|[A-Za-z0-9_+=%!-][A-Za-z0-9_~+/=!%-]*"
_PEM = r"-----BEGIN [A-Z ]{0,40}-----(?:\s+[A-Za-z0-9+/=]{16,})+\s*(?:-----END [A-Z ]{0,40}-----)?"
_SCHEMES = r"(?i:bearer|basic) [A-Za-z0-9._~+/=-]+"
# No argument that anybody reads is longer.
_MOST = 1 << 20


def concealed_in(text: str, conceal: Callable[[str], str]) -> str:
    """The text, each part of it replaced that looks like a credential and can be nothing else.

    Args:
        text: Any text; one that is no Unicode or longer than a megabyte is left as it is.
        conceal: Gives what stands in a credential's place.
    """
    suspicious, steps, inert = _compiled()
    try:
        if len(text) > _MOST or suspicious(text) is None:
            return text
    except UnicodeEncodeError:
        return text

    def shown(match: Any, split: _Split) -> str:
        before, found, after = split(match)
        whole: str = match.group(0)
        return whole if inert(found) is None else f"{before}{conceal(found)}{after}"

    for sub, split in steps:
        text = sub(lambda match, split=split: shown(match, split), text)
    return text


def _behind_the_first(match: Any) -> tuple[str, str, str]:
    before = match.group(1)
    return before, match.group(0)[len(before) :], ""


def _login(match: Any) -> tuple[str, str, str]:
    user, _, password = match.group(0)[:-1].rpartition(":")
    return f"{user}:", password, "@"


def _value(match: Any) -> tuple[str, str, str]:
    prefix, word, between, value = match.groups()
    counted = prefix and word.lower() == "token" and value.replace(".", "", 1).isdigit()
    return f"{prefix}{word}{between}", "" if counted else value, ""


_STEPS: tuple[tuple[str, _Split], ...] = (
    (WHOLE, _behind_the_first),
    (HEADER, _behind_the_first),
    (COOKIE, _behind_the_first),
    (URL_LOGIN, _login),
    (SIGNED_URL, _behind_the_first),
    (ASSIGNED, _value),
)


@cache
def _compiled() -> tuple[Any, Any, Any]:
    import re2  # only who shows a question pays for it

    watch_exit()

    def method(pattern: str, name: str) -> Any:
        return partial(through, getattr(through(re2.compile, pattern), name))

    steps = tuple((method(pattern, "sub"), split) for pattern, split in _STEPS)
    return method(ANY, "search"), steps, method(f"(?:{_WORD}|{_PEM}|{_SCHEMES})", "fullmatch")
