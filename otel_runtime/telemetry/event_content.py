"""Which attributes of foreign events are content, or a secret, by their name alone. Pure.

The names are those that the three vocabularies use for what was said, shown or handed over, and those under which credentials travel.
Case, and humps as in `toolCalls`, do not matter.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["is_content", "is_content_as_text"]

_HUMP: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_WORDS: Final = (
    r"inputs?|outputs?|prompts?|args?|arguments|params|body|headers?|contents?|texts?|messages?|requests?|responses?|results?|raw|payload|data"
    r"|query|description|questions|details?|delta|error|title|goal|command|stdout|stderr"
)
_SECRETS: Final = (
    r"cookies?|authorization|auth|password|passwd|pwd|passphrase|secrets?|credentials?|api[_-]?key|access[_-]?key|private[_-]?key|secret[_-]?key|token|jwt"
    r"|dsn|connection[_-]?string"
)
# The last word of a name, or a whole part of it: `tool.input`, `response_text`, `request.headers.host`; not `request_id`, `input_tokens`.
_CONTENT: Final = re.compile(
    rf"(?:^|[._-])(?:{_WORDS}|{_SECRETS})$"
    rf"|\.(?:{_WORDS})\."
    rf"|^(?:{_SECRETS}|headers?|env|environ|environment)\."
    r"|^(?:tool_calls|tool_calls_attempted)$"
)
# A number under one of these says how far something is, and nothing of what was said.
_PROGRESS: Final = re.compile(r"(?:^|[._-])progress$")


def is_content(key: str) -> bool:
    """True when the value must stay behind, whatever it is."""
    return _CONTENT.search(_HUMP.sub("_", key[:512]).lower()) is not None


def is_content_as_text(key: str) -> bool:
    """True when the value must stay behind if it is text: `progress` is a share, or what a model reports of itself."""
    return _PROGRESS.search(_HUMP.sub("_", key[:512]).lower()) is not None
