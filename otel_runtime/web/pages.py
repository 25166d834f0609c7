"""The pages as HTML text. Pure; everything that is shown passes `visible` (no hidden characters) and `html.escape`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Final

from otel_runtime.approvals.display import in_words, rendered, seen_in, visible
from otel_runtime.values.approval import ApprovalRequest

__all__ = ["inbox_page", "message_page", "request_page"]

_SHORT: Final = 300
_BRIEF: Final = 120
_REFRESH_S: Final = 5
# A text as `rendered` writes it, or as much of it as was not cut off.
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*(?:"|$)')


def inbox_page(
    waiting: Sequence[ApprovalRequest], answered: Sequence[ApprovalRequest], now: datetime, identity: str, *, still: bool = False
) -> str:
    """The list: what waits, then what was answered lately. It reloads itself, so it holds no form; each time the keyboard's place on it is
    lost, so it can be told to stand still.
    """
    count = f"{len(waiting)} waiting" if waiting else "Nothing waits for you"
    reloads = 'Stands still. <a href="/">Reload by itself</a>'
    if not still:
        reloads = f'Reloads every {_REFRESH_S} seconds. <a href="/?still">Stand still</a>'
    parts = [f"<h1>{count}</h1>", f'<p class="quiet reloads">{reloads}</p>', _cards(waiting, now)]
    if answered:
        parts += ["<h2>Answered lately</h2>", _cards(answered, now)]
    title = f"({len(waiting)}) Approvals" if waiting else "Approvals"
    return _page(title, "\n".join(parts), identity, refresh=not still)


def request_page(
    request: ApprovalRequest, now: datetime, identity: str, csrf: str, missing: Mapping[str, int], trace_page: str = ""
) -> str:
    """One request, all of it, and the two answers when it can still be answered."""
    waits = request.state == "awaiting-approval"
    parts = [
        '<p><a href="/">All requests</a></p>',
        f"<h1>{_shown(request.capability)}</h1>",
        f'<p class="state state-{request.state}">{_state(request, now)}</p>',
        f"<p>{_shown(request.reason)}</p>",
        "<h2>Arguments</h2>",
        _list(_arguments(request)),
        _form(request, csrf, identity) if waits else "",
        "<h2>Who must answer</h2>",
        _list(_asked(request, missing)),
        *(["<h2>Answers</h2>", _list(_votes(request))] if request.votes else []),
        *(
            ["<h2>Where its values were seen</h2>", _list((name, escape(said)) for name, said in seen)]
            if (seen := seen_in(request))
            else []
        ),
        "<h2>Where it comes from</h2>",
        _list(_origin(request)),
        *([f'<p><a href="{escape(trace_page)}" rel="noreferrer">Look at the trace</a></p>'] if trace_page else []),
    ]
    return _page(f"{visible(request.capability)}: {request.state}", "\n".join(parts), identity)


def message_page(title: str, text: str, identity: str, back: str = "/") -> str:
    """One sentence, and the way back."""
    body = f'<h1>{_shown(title)}</h1>\n<div class="card notice" role="alert"><p>{_shown(text)}</p></div>\n'
    return _page(title, f'{body}<p><a href="{escape(back)}">Back</a></p>', identity)


def _page(title: str, body: str, identity: str, *, refresh: bool = False) -> str:
    again = f'<meta http-equiv="refresh" content="{_REFRESH_S}">' if refresh else ""
    who = f"<p>You answer as <strong>{_shown(identity)}</strong></p>" if identity else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{again}
<title>{escape(title)}</title>
<link rel="stylesheet" href="/inbox.css">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header><p>otel-runtime approvals</p>{who}</header>
<main id="main">
{body}
</main>
</body>
</html>
"""


def _cards(requests: Iterable[ApprovalRequest], now: datetime) -> str:
    items = "\n".join(f"<li>{_card(request, now)}</li>" for request in requests)
    return f'<ul class="requests">\n{items}\n</ul>' if items else ""


def _card(request: ApprovalRequest, now: datetime) -> str:
    return (
        f'<a class="card" href="/requests/{escape(request.id)}"><strong>{_shown(request.capability)}</strong>'
        f"<code>{_drawn(_call(request), _BRIEF) or 'no arguments'}</code>"
        f'<span class="quiet"><br>{_shown(_cut(request.reason, 160))}</span><br>'
        f'<span class="state state-{request.state}">{_state(request, now)}</span></a>'
    )


def _state(request: ApprovalRequest, now: datetime) -> str:
    if request.state == "awaiting-approval":
        return f"waits for an answer, {escape(in_words(request.expires_at - now))}"
    return escape(request.state)


def _arguments(request: ApprovalRequest) -> Iterable[tuple[str, str]]:
    for name, value in request.input.items():
        text = rendered(value, name)
        full = _drawn(_runs(text))
        if len(text) > _SHORT:
            full = f"<details><summary>all {len(text):,} characters</summary><pre>{full}</pre></details>"
            full = f"<pre>{_drawn(_runs(text), _SHORT)}</pre>{full}"
        else:
            full = f"<pre>{full}</pre>"
        yield visible(name), full
    if not request.input:
        yield "none", "the call takes no arguments"


def _call(request: ApprovalRequest) -> Iterator[tuple[str, bool]]:
    """The arguments on one line, as `_runs` gives a text."""
    for place, (name, value) in enumerate(request.input.items()):
        yield ", " * bool(place), False
        yield visible(name), True
        yield "=", False
        yield from _runs(rendered(value, name))


def _runs(text: str) -> Iterator[tuple[str, bool]]:
    """A rendered value in pieces, each with whether it is a text of its own: letters that are read from right to left must not turn the order
    of what stands around them, such as the numbers of a list.
    """
    at = 0
    for found in _QUOTED.finditer(text):
        yield text[at : found.start()], False
        yield found[0], True
        at = found.end()
    yield text[at:], False


def _drawn(runs: Iterable[tuple[str, bool]], longest: int | None = None) -> str:
    parts: list[str] = []
    shown = cut = 0
    for text, alone in runs:
        part = text if longest is None else text[: max(0, longest - shown)]
        shown, cut = shown + len(part), cut + len(text) - len(part)
        if part:
            parts.append(f"<bdi>{escape(part)}</bdi>" if alone else escape(part))
    return "".join(parts) + (f"… ({cut:,} more)" if cut else "")


def _asked(request: ApprovalRequest, missing: Mapping[str, int]) -> Iterable[tuple[str, str]]:
    for each in request.terms.requirements:
        still = f", {missing[each.rule]} still missing" if missing.get(each.rule) else ""
        who = " or ".join(map(visible, each.approvers))
        yield visible(each.rule), escape(f"{each.quorum} of {who}{still}. {visible(each.reason)}".strip())


def _votes(request: ApprovalRequest) -> Iterable[tuple[str, str]]:
    for vote in request.votes:
        yield (
            visible(vote.approver),
            escape(
                f"{'approved' if vote.approved else 'denied'} at {_moment(vote.at)}" + (f": {visible(vote.reason)}" if vote.reason else "")
            ),
        )


def _origin(request: ApprovalRequest) -> Iterable[tuple[str, str]]:
    facts = {
        "request": request.id,
        "acts for": request.user,
        "agents": " > ".join(request.agents),
        "session": request.session,
        "run": request.run,
        "call id": request.call_id,
        "rule": " ".join(part for part in (request.rule, request.place) if part),
        "asked": _moment(request.requested_at),
        "expires": _moment(request.expires_at),
        "trace": request.trace.id if request.trace else None,
        "call digest": request.call_digest,
        "policy digest": request.policy_digest,
        "edited from": request.edited_from,
        "replaces": request.supersedes,
    }
    return [(name, f"<code>{_shown(value)}</code>") for name, value in facts.items() if value]


def _form(request: ApprovalRequest, csrf: str, identity: str) -> str:
    # No text field outside the text area: the Enter key then submits nothing, so no answer is the default one.
    return f"""<form class="card" method="post" action="/requests/{escape(request.id)}">
<input type="hidden" name="csrf" value="{escape(csrf)}">
<input type="hidden" name="digest" value="{escape(request.call_digest)}">
<label for="reason">Reason (kept with your answer)</label>
<textarea id="reason" name="reason" maxlength="1000"></textarea>
<div class="answers">
<button class="no" name="answer" value="deny">Deny</button>
<button class="yes" name="answer" value="approve">Approve</button>
</div>
<p class="quiet">Exactly this call, once. Your answer is recorded as {_shown(identity)}.</p>
</form>"""


def _list(rows: Iterable[tuple[str, str]]) -> str:
    items = "\n".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in rows)
    return f'<dl class="card">\n{items}\n</dl>'


def _shown(text: str) -> str:
    return escape(visible(text))


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} more)"


def _moment(moment: datetime) -> str:
    return moment.isoformat(sep=" ", timespec="seconds")
