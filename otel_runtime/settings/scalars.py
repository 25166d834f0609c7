"""What an unquoted YAML scalar means: only spellings that every reader understands alike; the rest must be quoted."""

from __future__ import annotations

import re
from decimal import Decimal

__all__ = ["Ambiguous", "plain_scalar"]

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
_MAX_DIGITS = 40
# YAML 1.1 reads these as booleans or null, YAML 1.2 reads most of them as text.
_WORDS = re.compile(r"yes|no|on|off|true|false|null", re.IGNORECASE)
_NUMBER_LIKE = re.compile(
    r"""[-+]?(?:0[0-9_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|0b[01_]+          # octal, hexadecimal, binary
    |[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?                    # base 60
    |[0-9]*_[0-9_]*                                                 # grouped digits
    |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*\.(?:[0-9_]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|[0-9]+
    |\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:(?:[Tt]|[ \t]+)[0-9].*)?")
_KNOWN: dict[str, object] = {"": None, "~": None, "null": None, "true": True, "false": False}


class Ambiguous(ValueError):
    """An unquoted scalar that readers of YAML disagree on; the message says how to write it."""


def plain_scalar(text: str) -> object:
    """The value of an unquoted scalar.

    Returns:
        None, bool, int, str, float, or Decimal where a float would lose digits.

    Raises:
        Ambiguous: The spelling means different things to different readers.
    """
    if text in _KNOWN:
        return _KNOWN[text]
    if text[0] not in "-+.0123456789":
        if _WORDS.fullmatch(text):
            raise Ambiguous(_boolean_hint(text))
        return text
    if _INTEGER.fullmatch(text) and len(text) <= _MAX_DIGITS:
        return int(text)
    if _DECIMAL.fullmatch(text) and len(text) <= _MAX_DIGITS:
        return _decimal(text)
    if _NUMBER_LIKE.fullmatch(text) or _INTEGER.fullmatch(text):
        raise Ambiguous(
            f'`{text}` is read as different numbers by different YAML readers; write plain decimal digits, or quote it: "{text}"'
        )
    if _DATE.fullmatch(text):
        raise Ambiguous(f'`{text}` looks like a date; quote it: "{text}"')
    return text


def _boolean_hint(text: str) -> str:
    meant = "null" if text.lower() == "null" else "true" if text.lower() in {"yes", "on", "true"} else "false"
    return f'`{text}` is a truth value to some YAML readers and text to others; write `{meant}`, or quote it: "{text}"'


def _decimal(text: str) -> object:
    exact = Decimal(text)
    rounded = float(text)
    # repr is the shortest text that reads back as the same float, so equality here means that no digit is lost.
    return rounded if Decimal(repr(rounded)) == exact else exact
