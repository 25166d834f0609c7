"""Secrets never leave: values under known key names, and text that looks like a credential. Linear time (RE2), never raises in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import re2

from otel_runtime.errors import ConfigError, Fault
from otel_runtime.telemetry.sanitize import text

__all__ = ["MASK", "Redactor"]

MASK = "[redacted]"
_MEMORY_LIMIT = 4096
# Whole key names, written without case, dashes or underscores. Plural `tokens` and `max_tokens` are counts, no secrets.
_KEYS = frozenset(
    "accesskey accesstoken apikey apitoken auth authorization authtoken awssecretaccesskey bearertoken clientsecret connectionstring "
    "cookie credential credentials csrftoken databaseurl dsn encryptionkey idtoken jwt passphrase passwd password pin privatekey "
    "proxyauthorization pwd refreshtoken secret secretaccesskey secretkey secrets securitytoken sessioncookie sessiontoken setcookie "
    "signature signingkey ssn token webhooksecret xapikey cvv cvc cardnumber creditcard".split()
)
_KEY_ENDINGS = ("password", "passphrase", "secret", "apikey", "accesskey", "privatekey", "token")
_PATTERNS = (
    r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----[^-]*(?:-----END [A-Z ]{0,40}PRIVATE KEY-----)?",
    r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}(?:\.[A-Za-z0-9_-]*)?",
    r"\bsk-[A-Za-z0-9_-]{16,}",
    r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{20,}",
    r"\bgithub_pat_[A-Za-z0-9_]{20,}",
    r"\bglpat-[A-Za-z0-9_-]{16,}",
    r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}",
    r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    r"\bAIza[A-Za-z0-9_-]{30,}",
    r"\b(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,}",
    r"(?i)\b(?:bearer|basic) [A-Za-z0-9._~+/=-]{8,}",
)
# `password=...`, `"api_key": "..."`, also inside JSON that is itself a string.
_ASSIGNED = (
    r"(?i)(\b(?:password|passwd|passphrase|secret|client_secret|api[_-]?key|access[_-]?key|private[_-]?key|token|access[_-]?token|"
    r"refresh[_-]?token|auth[_-]?token|authorization)\\{0,3}[\"']?\s{0,4}[:=]\s{0,4}\\{0,3}[\"']?)[^\s\"'\\,;&}\]]+"
)
_URL_LOGIN = r"(\b[A-Za-z][A-Za-z0-9+.-]{1,20}://)[^\s/@:]*:[^\s/@]+@"


class Redactor:
    """Masks secrets in keys and text.

    Args:
        keys: More key names; case, dashes and underscores do not matter.
        patterns: More RE2 expressions whose matches are masked.

    Raises:
        ConfigError: A pattern is no RE2 expression.
    """

    def __init__(self, keys: Iterable[str] = (), patterns: Iterable[str] = ()) -> None:
        self._keys = _KEYS | {_plain(key) for key in keys}
        self._known: dict[str, bool] = {}
        own = tuple(patterns)
        _refuse_bad(own)
        tokens: Callable[[str, str], str] = re2.compile("|".join(f"(?:{pattern})" for pattern in _PATTERNS)).sub
        assigned, login = re2.compile(_ASSIGNED).sub, re2.compile(_URL_LOGIN).sub
        self._steps: tuple[Callable[[str], str], ...] = (
            lambda given: tokens(MASK, given),
            lambda given: assigned(rf"\1{MASK}", given),
            lambda given: login(rf"\1{MASK}@", given),
            *(_masking(pattern) for pattern in own),
        )

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
            for step in self._steps:
                clean = step(clean)
        except Exception:  # noqa: BLE001 - a text that cannot be searched must not leave unsearched
            return MASK
        return clean

    def _is_secret(self, key: str) -> bool:
        plain = _plain(key)
        return plain in self._keys or plain.endswith(_KEY_ENDINGS)


def _plain(key: str) -> str:
    return key[:256].lower().replace("-", "").replace("_", "").replace(" ", "").replace(".", "")


def _masking(pattern: str) -> Callable[[str], str]:
    sub = re2.compile(pattern).sub
    return lambda given: str(sub(MASK, given))


def _refuse_bad(patterns: tuple[str, ...]) -> None:
    options = re2.Options()
    options.log_errors = False
    faults: list[Fault] = []
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
