"""Secrets never leave: values under known key names, and text that looks like a credential. Linear time (RE2), never raises in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import re2

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.telemetry.sanitize import text
from otel_runtime.values.re2_gate import through, watch_exit
from otel_runtime.values.secret_text import ANY, ASSIGNED, COOKIE, HEADER, SIGNED_URL, URL_LOGIN, WHOLE

__all__ = ["MASK", "Redactor"]

MASK = "[redacted]"
_MEMORY_LIMIT = 4096
# Whole key names, written without case, dashes or underscores. Plural `tokens` and `max_tokens` are counts, no secrets.
_KEYS = frozenset(
    "accesskey accesstoken accountkey apikey apitoken auth authorization authtoken awssecretaccesskey bearertoken clientsecret "
    "connectionstring cookie cookies credential credentials csrftoken databaseurl dsn encryptionkey idtoken jwt passphrase passwd password "
    "pin privatekey proxyauthorization pwd refreshtoken secret secretaccesskey secretkey secrets securitytoken sessioncookie sessionid "
    "sessiontoken setcookie signature signingkey ssn token webhooksecret xapikey cvv cvc cardnumber creditcard".split()
)
_KEY_ENDINGS = ("password", "passphrase", "secret", "apikey", "accesskey", "privatekey", "token")
_NUMBERS = (int, float, type(None))


class Redactor:
    """Masks secrets in keys and text.

    Args:
        keys: More key names; case, dashes and underscores do not matter, neither in data nor where a text shows data.
        patterns: More RE2 expressions whose matches are masked.

    Attributes:
        always: True with patterns of the user's, for which no cheap test is known.

    Raises:
        ConfigError: A key is empty, or a pattern is no RE2 expression.
    """

    def __init__(self, keys: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        given, own = tuple(keys), tuple(patterns)
        _refuse_bad(given, own)
        self._keys = _KEYS | {_plain(key) for key in given}
        self._known: dict[str, bool] = {}
        watch_exit()
        quoted, number = _keyed(self._keys)
        # A value that is masked already is nothing to look at twice.
        self._suspicious: Callable[[str], object] = partial(through, re2.compile(rf"{ANY}|{quoted}[^\"'\\\[]|{number}").search)
        in_quotes, in_digits = _replacing(rf"{quoted}[^\"'\\]+"), _replacing(number)
        shapes, header, cookie, login, signed, assigned = map(_replacing, (WHOLE, HEADER, COOKIE, URL_LOGIN, SIGNED_URL, ASSIGNED))
        self._steps: tuple[Callable[[str], str], ...] = (
            lambda given: shapes(rf"\1{MASK}", given),
            lambda given: header(_after, given),
            lambda given: cookie(_after, given),
            lambda given: login(rf"\1{MASK}@", given),
            lambda given: signed(_after, given),
            lambda given: in_quotes(_after, given),
            lambda given: in_digits(_after, given),
            lambda given: assigned(_value, given),
        )
        self._own = tuple(_masking(pattern) for pattern in own)
        self.always: bool = bool(own)

    def suspicious(self, given: str) -> bool:
        """True when our own patterns might change the text, or JSON that holds it; one pass, much cheaper than masking.

        Args:
            given: A text, or JSON of texts: escaped characters hide no secret from it.
        """
        return self._suspicious(given) is not None

    def secret_key(self, key: str) -> bool:
        """True when the value under this key must not leave."""
        known = self._known.get(key)
        if known is None:
            known = self._is_secret(key)
            # Keys may be data of the user's: the memory of them is bounded.
            if len(self._known) < _MEMORY_LIMIT and len(key) < 128:
                self._known[key] = known
        return known

    def mask(self, given: str) -> str:
        """The text with everything masked that looks like a secret."""
        clean = text(given, 1 << 20)
        try:
            if self._suspicious(clean) is not None:
                for step in self._steps:
                    clean = step(clean)
            for step in self._own:
                clean = step(clean)
        except Exception:  # noqa: BLE001 - a text that cannot be searched must not leave unsearched
            return MASK
        return clean

    def secret(self, key: str, value: object) -> bool:
        """The same for a value that is known: a number under `..._token` is a count or a rate."""
        return self.secret_key(key) and not (type(value) in _NUMBERS and _plain(key).endswith("token"))

    def _is_secret(self, key: str) -> bool:
        plain = _plain(key)
        return plain in self._keys or plain.endswith(_KEY_ENDINGS)


def _plain(key: str) -> str:
    return key[:256].lower().replace("-", "").replace("_", "").replace(" ", "").replace(".", "")


def _after(match: Any) -> str:
    """Keep the first group; what was masked before stays as it is."""
    kept: str = match.group(1)
    return match.group(0) if match.group(0)[len(kept) :].startswith(MASK[:-1]) else kept + MASK


def _value(match: Any) -> str:
    prefix, word, between, value = match.groups()
    counted = prefix and word.lower() == "token" and value.replace(".", "", 1).isdigit()
    return match.group(0) if counted or value.startswith(MASK[:-1]) else f"{prefix}{word}{between}{MASK}"


def _replacing(pattern: str) -> Callable[[Any, str], str]:
    return partial(through, re2.compile(pattern).sub)


def _masking(pattern: str) -> Callable[[str], str]:
    sub = _replacing(pattern)
    return lambda given: str(sub(MASK, given))


def _keyed(keys: Iterable[str]) -> tuple[str, str]:
    """Where a text shows a dictionary, such as the message of an error: a secret key with what opens its text, and one with its number."""
    # What stands before the secret of an authorization is shown, and `HEADER` knows it.
    spelled = {key: "[-_ .]?".join(map(re2.escape, key)) for key in sorted(keys) if not key.endswith("authorization")}
    quote = r"\\{0,3}[\"']"
    # A number under `..._token` is a count.
    texts, numbers = "|".join(spelled.values()), "|".join(shape for key, shape in spelled.items() if not key.endswith("token"))
    behind = rf"{quote}\s{{0,4}}:\s{{0,4}}"
    return rf"(?i:({quote}(?:{texts}){behind}{quote}))", rf"(?i:({quote}(?:{numbers}){behind}))[0-9][0-9.-]*"


def _refuse_bad(keys: tuple[str, ...], patterns: tuple[str, ...]) -> None:
    options = re2.Options()
    options.log_errors = False
    faults = [
        Fault(code="S020", message=f"`{key}` names no key; expected a name such as `patient_id`", source="redact_keys")
        for key in keys
        if not _plain(key)
    ]
    for pattern in patterns:
        try:
            re2.compile(pattern, options)
        except re2.error as error:
            why = error.args[0] if error.args else "unknown"
            reason = why.decode("utf-8", "replace") if isinstance(why, bytes) else str(why)
            message = f"`{pattern}` is not an RE2 expression ({reason}); look-around and back-references do not exist in it"
            faults.append(Fault(code="S020", message=message, source="redact_patterns"))
    if faults:
        raise ConfigError(faults)
