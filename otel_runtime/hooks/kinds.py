"""Which event kinds belong to the runtime and which are the application's."""

from __future__ import annotations

import re
import unicodedata

from otel_runtime.errors import ReservedKind

__all__ = ["RESERVED_PREFIXES", "check_custom_kind"]

# Dreadnode, "Reserved namespaces".
RESERVED_PREFIXES = ("turn.", "prompt.", "session.", "transport.", "capabilities.", "component.")
_SHAPE = re.compile(r"[^\s\x00-\x1f]{1,256}")


def check_custom_kind(kind: str) -> None:
    """Refuse kinds that applications must not publish.

    The published test is a case-sensitive prefix; look-alikes in other case or script are refused too, because a subscriber that reads
    them would take them for the runtime's own.

    Raises:
        ReservedKind: It lies in a reserved namespace or looks as if it did.
        ValueError: It is empty, too long or holds white space or control characters.
    """
    if not isinstance(kind, str) or not _SHAPE.fullmatch(kind):
        raise ValueError(f"expected an event kind such as `myapp.report_ready` (1 to 256 characters, no white space), got `{kind!r}`")
    folded = _skeleton(kind)
    for prefix in RESERVED_PREFIXES:
        if folded.startswith(prefix) or folded == prefix[:-1]:
            raise ReservedKind(kind, prefix)


# Letters of other scripts that are drawn like Latin ones; the published prefixes hold no others (Unicode TR 39, confusables).
_LOOKALIKES = str.maketrans(
    {
        "а": "a", "с": "c", "е": "e", "і": "i", "ї": "i", "о": "o", "р": "p", "ѕ": "s", "т": "t", "у": "y", "ь": "b", "һ": "h", "ո": "n",
        "ս": "u", "ʋ": "u", "υ": "u", "ο": "o", "ρ": "p", "τ": "t", "ν": "v", "α": "a", "ι": "i", "ɑ": "a", "ⅼ": "l", "ӏ": "l", "г": "r",
        "п": "n", "м": "m", "ɡ": "g", "ꜱ": "s", "ᴛ": "t", "․": ".", "。": ".", "·": ".", "‧": ".",
    }
)  # fmt: skip


def _skeleton(kind: str) -> str:
    text = unicodedata.normalize("NFKD", kind).casefold().translate(_LOOKALIKES)
    # Combining marks and invisible characters are what is left of a disguise.
    return "".join(char for char in text if unicodedata.category(char) not in {"Mn", "Cf", "Cc"})
