"""The nearest known word to a mistaken one, for messages; it loads nothing."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["did_you_mean"]


def did_you_mean(got: str, known: Iterable[str]) -> str:
    """Text to append to a message: the nearest known word, or nothing.

    Args:
        got: What was written.
        known: What could have been meant.
    """
    # Only mistakes need it.
    import difflib

    words = list(known)
    # Compared without case first: `Deny` is nearest to `deny`, not to another word of its length.
    folded = {word.casefold(): word for word in reversed(words)}
    close = difflib.get_close_matches(got.casefold(), folded, n=1, cutoff=0.6)
    return f"; did you mean `{folded[close[0]]}`?" if close else ""
