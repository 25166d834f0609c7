"""A request as a person must see it before answering: everything that was hashed, nothing hidden, nothing that acts on a terminal. Pure."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Mapping
from datetime import date, datetime, time, timedelta
from itertools import pairwise

from otel_runtime.policy.provenance import LOST, key_of, leaves
from otel_runtime.values.action import Unreadable
from otel_runtime.values.approval import ApprovalRequest
from otel_runtime.values.decision import ApprovalTerms, Requirement
from otel_runtime.values.secret_text import concealed_in

__all__ = ["as_data", "headline", "in_words", "is_secret", "lines", "rendered", "seen_in", "visible"]

_LONGEST = 300
_LONGEST_DECIMAL_BITS = 10_000
# Categories that draw nothing, move the cursor or reorder text: control, format, surrogate, private, unassigned, line and paragraph
# separators. Other spaces than U+0020 look like it.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"})
# Letters, marks and symbols that draw nothing: fillers, the grapheme joiner, variation selectors, the blank braille pattern.
_BLANK = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", '"': '\\"'}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_SECRET_WORDS = frozenset(
    [
        "password",
        "passwd",
        "pwd",
        "passphrase",
        "passcode",
        "secret",
        "secrets",
        "authorization",
        "credential",
        "credentials",
        "apikey",
        "cookie",
    ]
)
_SECRET_PAIRS = frozenset(
    [("api", "key"), ("private", "key"), ("access", "key"), ("secret", "key"), ("signing", "key"), ("encryption", "key")]
)
_TOKEN_WORDS = frozenset(["token", "tokens", "bearer", "jwt"])


def visible(text: str) -> str:
    r"""Text whose every character shows: what is invisible or would act on a terminal becomes an escape such as `\u{202e}`."""
    return "".join(_shown(char) for char in text)


def is_secret(name: str, value: object = "") -> bool:
    """True when an argument of this name must not be shown; a count, such as `max_tokens: 500`, is none."""
    words = [word.lower() for word in _WORDS.findall(name)]
    if _SECRET_WORDS.intersection(words) or _SECRET_PAIRS.intersection(pairwise(words)):
        return True
    return bool(_TOKEN_WORDS.intersection(words)) and not _counts(value)


def rendered(value: object, name: str = "") -> str:
    """One line for a value: text in quotes, numbers bare, other types by name; secrets, also inside a text, as length and hash prefix.

    Args:
        value: As stored with the request.
        name: Name of the argument or key it stands under.
    """
    if name and value is not None and is_secret(name, value):
        return _concealed(value)
    if isinstance(value, str):
        return f'"{visible(concealed_in(value, _concealed))}"'
    if isinstance(value, Mapping):
        return "{" + ", ".join(f'"{visible(key)}": {rendered(item, key)}' for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return ("[{}]" if isinstance(value, list) else "({})").format(", ".join(rendered(item) for item in value))
    return _scalar(value)


def headline(request: ApprovalRequest) -> str:
    """One line that tells requests apart in a list."""
    arguments = ", ".join(f"{visible(name)}={rendered(value, name)}" for name, value in request.input.items())
    return f"{request.id[:12]}  {request.state}  {visible(request.capability)}({_cut(arguments, 100, '')})"


def lines(
    request: ApprovalRequest, now: datetime, *, full: bool = False, missing: Mapping[str, int] | None = None, page: str = ""
) -> list[str]:
    """Everything about a request, one fact per line.

    Args:
        request: The request.
        now: Present time, for the expiry in words.
        full: Show long values whole.
        missing: Approvals still needed, by rule id.
        page: Where the trace can be looked at; empty when it is not known.
    """
    return [
        f"request     {request.id}",
        f"state       {request.state}" + (f" ({in_words(request.expires_at - now)})" if request.state == "awaiting-approval" else ""),
        f"{request.kind:<11} {visible(request.capability)}",
        *_arguments(request, full),
        f"reason      {visible(request.reason)}",
        *_asked(request.terms, missing or {}),
        *_origin(request),
        *(f"seen in     {name}: {sources}" for name, sources in seen_in(request)),
        f"asked       {_moment(request.requested_at)}",
        f"expires     {_moment(request.expires_at)}" + _use_within(request.terms),
        *(f"trace       {visible(request.trace.id)}" for _ in [0] if request.trace),
        *(f"look at it  {visible(page)}" for _ in [0] if page),
        f"digest      {request.call_digest}",
        f"policy      {visible(request.policy_digest) or '-'}",
        *(f"edited from {request.edited_from}" for _ in [0] if request.edited_from),
        *(f"replaces    {request.supersedes}" for _ in [0] if request.supersedes),
        *_votes(request),
    ]


def as_data(request: ApprovalRequest) -> dict[str, object]:
    """The same as JSON data, for programs; arguments rendered as a person would see them, secrets concealed."""
    return {
        "id": request.id,
        "state": request.state,
        "kind": request.kind,
        "tool": request.capability,
        "arguments": {name: rendered(value, name) for name, value in request.input.items()},
        "reason": request.reason,
        "rules": [
            {"rule": r.rule, "approvers": list(r.approvers), "quorum": r.quorum, "reason": r.reason} for r in request.terms.requirements
        ],
        "editable": sorted(request.terms.edit),
        "user": request.user,
        "agents": list(request.agents),
        "session": request.session,
        "run": request.run,
        "call_id": request.call_id,
        "requested_at": request.requested_at.isoformat(),
        "expires_at": request.expires_at.isoformat(),
        "decided_at": request.decided_at.isoformat() if request.decided_at else None,
        "call_digest": request.call_digest,
        "policy_digest": request.policy_digest,
        "trace_id": request.trace.id if request.trace else None,
        "supersedes": request.supersedes,
        "edited_from": request.edited_from,
        "votes": [{"approver": v.approver, "approved": v.approved, "at": v.at.isoformat(), "reason": v.reason} for v in request.votes],
    }


def in_words(left: timedelta) -> str:
    """A remaining time, such as `expires in 3 hours 29 minutes`."""
    seconds = int(left.total_seconds())
    if seconds <= 0:
        return "expired"
    for size, unit, part, smaller in ((86_400, "day", 3_600, "hour"), (3_600, "hour", 60, "minute")):
        if seconds >= size:
            # An hour and fifty minutes are not an hour.
            rest = seconds % size // part
            return f"expires in {_plural(seconds // size, unit)}" + (f" {_plural(rest, smaller)}" if rest else "")
    return f"expires in {_plural(seconds // 60, 'minute') if seconds >= 60 else _plural(seconds, 'second')}"


def _arguments(request: ApprovalRequest, full: bool) -> list[str]:
    if not request.input:
        return ["arguments   none"]
    shown = ["arguments"]
    for name, value in request.input.items():
        mark = "  (editable)" if name in request.terms.edit else ""
        text = rendered(value, name)
        shown.append(f"  {visible(name)} = {text if full else _cut(text, _LONGEST, '; --full shows all')}{mark}")
    return shown


def _asked(terms: ApprovalTerms, missing: Mapping[str, int]) -> list[str]:
    return [_requirement(each, missing.get(each.rule, 0)) for each in terms.requirements]


def _requirement(each: Requirement, missing: int) -> str:
    who = " or ".join(visible(entry) for entry in each.approvers)
    why = f": {visible(each.reason)}" if each.reason else ""
    still = f" ({_plural(missing, 'answer')} missing)" if missing else ""
    return f"rule        {visible(each.rule)} asks {each.quorum} of {who}{still}{why}"


def _origin(request: ApprovalRequest) -> list[str]:
    facts = {
        "user": request.user,
        "agents": " > ".join(request.agents) or None,
        "session": request.session,
        "run": request.run,
        "call id": request.call_id,
        "decided by": " ".join(part for part in (request.rule, request.place) if part) or None,
    }
    return [f"{name:<11} {visible(value)}" for name, value in facts.items() if value]


def seen_in(request: ApprovalRequest) -> list[tuple[str, str]]:
    """For each argument whose origin a rule asked for, where its values were seen in the session."""
    origins = request.facts.get("origins")
    if not isinstance(origins, Mapping):
        return []
    found: list[tuple[str, str]] = []
    for name, value in request.input.items():
        asked = [sources for leaf in leaves(value) if (sources := origins.get(key_of(leaf) or "")) is not None]
        if asked:
            found.append((visible(name), "; ".join(dict.fromkeys(_sources(sources) for sources in asked))))
    return found


def _sources(sources: Collection[str]) -> str:
    known = [visible(str(source)) for source in sources if not str(source).startswith(LOST)]
    # A field says more than the whole it stands in.
    whole = [source for source in known if "/" in source or not any(other.startswith(f"{source}/") for other in known)]
    doubts = ["not all is known"] if len(known) < len(sources) else []
    return ", ".join([*whole, *doubts]) or "nowhere"


def _votes(request: ApprovalRequest) -> list[str]:
    return [
        f"answer      {'approved' if vote.approved else 'denied'} by {visible(vote.approver)} at {_moment(vote.at)}"
        + (f": {visible(vote.reason)}" if vote.reason else "")
        for vote in request.votes
    ]


def _use_within(terms: ApprovalTerms) -> str:
    return "" if terms.use_within_s is None else f"; once approved, to be used within {terms.use_within_s:g} s"


def _moment(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")


def _scalar(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) and value.bit_length() > _LONGEST_DECIMAL_BITS:
        # Python refuses to write more than 4,300 decimal digits.
        return hex(value)
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Unreadable):
        return f"({value.why}: {visible(value.type_name)}, not shown and not covered by its content)"
    if isinstance(value, bytes):
        return f"bytes({len(value)}) {value.hex()}"
    if isinstance(value, datetime | date | time):
        return f"{type(value).__name__} {value.isoformat()}"
    return f"{type(value).__name__} {visible(str(value))}"


def _concealed(value: object) -> str:
    raw = value if isinstance(value, bytes) else (value if isinstance(value, str) else rendered(value)).encode("utf-8", "surrogatepass")
    return f"(secret, {len(raw)} bytes, sha256 {hashlib.sha256(raw).hexdigest()[:8]})"


def _cut(text: str, longest: int, hint: str) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} more characters{hint})"


def _shown(char: str) -> str:
    if char in _NAMED:
        return _NAMED[char]
    if char == " " or (unicodedata.category(char) not in _HIDDEN and not _BLANK.match(char)):
        return char
    return f"\\u{{{ord(char):x}}}"


def _counts(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(_counts(item) for item in value)
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _plural(count: int, unit: str) -> str:
    return f"{count} {unit}" + ("" if count == 1 else "s")
