"""The inbox as an ASGI application: five routes, each short. GET changes nothing; only POST answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.resources import files
from typing import Final
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from otel_runtime.approvals.answers import AnswerRefused
from otel_runtime.errors import StoreError
from otel_runtime.telemetry.links import page_of
from otel_runtime.values.approval import ApprovalRequest, ApprovalState
from otel_runtime.web.door import Door
from otel_runtime.web.guard import Guard
from otel_runtime.web.pages import inbox_page, message_page, request_page
from otel_runtime.web.protocol import Inbox

__all__ = ["inbox_app"]

_ANSWERED: Final[Sequence[ApprovalState]] = (
    *("approved", "denied", "expired", "cancelled", "superseded"),
    *("executing", "completed", "failed", "unknown"),
)
_FORM: Final = "application/x-www-form-urlencoded"
_REASON: Final = 1000


def _utc_now() -> datetime:
    return datetime.now(UTC)


def inbox_app(inbox: Inbox, door: Door, identity: str, clock: Callable[[], datetime] = _utc_now, trace_url: str | None = None) -> ASGIApp:
    """The application.

    Args:
        inbox: Where requests are read and answered.
        door: Who may come in.
        identity: Who answers, such as `os:alice`.
        clock: Says what time it is, in UTC.
        trace_url: The setting of that name.
    """
    pages = _Pages(inbox, door, identity, clock, trace_url)
    routes = [
        Route("/inbox.css", _style, methods=["GET"]),
        Route("/enter", pages.enter, methods=["GET"]),
        Route("/", pages.listing, methods=["GET"]),
        Route("/requests/{request_id:str}", pages.show, methods=["GET"]),
        Route("/requests/{request_id:str}", pages.answer, methods=["POST"]),
    ]
    return Guard(Starlette(routes=routes, exception_handlers={StoreError: pages.store_failed}), door)


async def _style(_: Request) -> Response:
    return Response((files("otel_runtime.web") / "static" / "inbox.css").read_bytes(), media_type="text/css")


@dataclass(frozen=True, slots=True)
class _Pages:
    inbox: Inbox
    door: Door
    identity: str
    clock: Callable[[], datetime]
    trace_url: str | None

    async def enter(self, request: Request) -> Response:
        """Exchange the printed token for a cookie."""
        session = self.door.exchange(request.query_params.get("token", ""))
        if session is None:
            return self._message("Not let in", "the token is wrong or from an earlier start; use the address the server printed", 403)
        response = RedirectResponse("/", 303)
        response.set_cookie(self.door.cookie, session, httponly=True, samesite="strict", path="/")
        return response

    async def listing(self, request: Request) -> Response:
        """What waits, and what was answered lately."""
        if not self.door.session_of(request.cookies):
            return self._stranger()
        waiting = await run_in_threadpool(self.inbox.list, ("awaiting-approval",), 100)
        answered = await run_in_threadpool(self.inbox.list, _ANSWERED, 10)
        return HTMLResponse(inbox_page(waiting, answered, self.clock(), self.identity, still="still" in request.query_params))

    async def show(self, request: Request) -> Response:
        """One request."""
        session = self.door.session_of(request.cookies)
        if not session:
            return self._stranger()
        found = await run_in_threadpool(self.inbox.get, request.path_params["request_id"])
        if found is None:
            return self._message("No such request", "there is no approval request of that id", 404)
        missing = await run_in_threadpool(self.inbox.missing, found) if found.state == "awaiting-approval" else {}
        page = await run_in_threadpool(page_of, self.trace_url, found.requested_span or found.trace)
        return HTMLResponse(request_page(found, self.clock(), self.identity, self.door.csrf(session), missing, page))

    async def answer(self, request: Request) -> Response:
        """Take an answer; the only change there is."""
        session = self.door.session_of(request.cookies)
        if not session:
            return self._stranger()
        form = await _form(request)
        back = f"/requests/{request.path_params['request_id']}"
        if refusal := self.door.may_change(session, request.headers, form.get("csrf", "")):
            return self._message("Not answered", refusal, 403, back)
        if form.get("answer") not in {"approve", "deny"}:
            return self._message("Not answered", "expected the answer `approve` or `deny`", 400, back)
        found = await run_in_threadpool(self.inbox.get, request.path_params["request_id"])
        if refusal := _changed(found, form.get("digest", "")):
            return self._message("Not answered", refusal, 409, back)
        return await self._take(request.path_params["request_id"], form, back)

    async def _take(self, request_id: str, form: dict[str, str], back: str) -> Response:
        # Forms end their lines as HTTP does, whatever the person's system does.
        reason = form.get("reason", "").replace("\r\n", "\n").strip()[:_REASON]

        def give() -> None:
            self.inbox.answer(request_id, approver=self.identity, approved=form["answer"] == "approve", reason=reason)

        try:
            await run_in_threadpool(give)
        except AnswerRefused as refused:
            return self._message("Not answered", str(refused), 403 if refused.why == "entitled" else 409, back)
        return RedirectResponse(back, 303)

    async def store_failed(self, _: Request, error: Exception) -> Response:
        """A page instead of a traceback."""
        return self._message("The state database failed", str(error), 503)

    def _stranger(self) -> Response:
        text = "this browser was not let in; open the address that `otel-runtime serve` printed, with its token"
        return HTMLResponse(message_page("Not let in", text, ""), 401)

    def _message(self, title: str, text: str, status: int, back: str = "/") -> Response:
        return HTMLResponse(message_page(title, text, self.identity, back), status)


async def _form(request: Request) -> dict[str, str]:
    """The fields of a form; none for any other kind of body. The guard has bounded its size."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _FORM:
        return {}
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=16)
    return {name: values[0] for name, values in fields.items()}


def _changed(found: ApprovalRequest | None, digest: str) -> str:
    if found is None:
        return "there is no approval request of that id"
    # What was shown is what is answered: an edit by somebody else in between makes it another call.
    return "" if found.call_digest == digest else "the call was changed meanwhile; look at it again"
