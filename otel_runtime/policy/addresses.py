"""E-mail addresses, read so narrowly that a mail server cannot read them differently."""

from __future__ import annotations

import re

__all__ = ["MAX_ADDRESS", "domain_of"]

MAX_ADDRESS = 254
# No `%` and no `!` (old routing syntax), no quotes, comments, display names or domain literals, and no `=?` (RFC 2047): what stands encoded
# there is another address to servers that decode it, such as `=?utf-8?q?x=40evil.com=3e?=@corp.example`.
_LOCAL = re.compile(r"[A-Za-z0-9#$&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9#$&'*+/=?^_`{|}~-]+)*")
_DOMAIN = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+[A-Za-z](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def domain_of(text: str) -> str | None:
    """The domain in lower case; None when the text is not exactly one plain address."""
    if len(text) > MAX_ADDRESS:
        return None
    local, at, domain = text.partition("@")
    if not at or len(local) > 64 or "=?" in local or _LOCAL.fullmatch(local) is None or _DOMAIN.fullmatch(domain) is None:
        return None
    return domain.lower()
