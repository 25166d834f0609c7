"""The inbox over real HTTP."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol

import httpx
import pytest

from otel_runtime.approvals.service import ApprovalService
from otel_runtime.errors import ConfigError, RuntimeStateError
from otel_runtime.web.door import Door
from otel_runtime.web.loopback import loopback
from otel_runtime.web.server import InboxServer


class Running(Protocol):
    service: ApprovalService
    server: InboxServer

    @property
    def base(self) -> str: ...
    def client(self) -> httpx.Client: ...
    def entered(self) -> AbstractContextManager[httpx.Client]: ...
    def ask(
        self, tool: str = ..., approvers: tuple[str, ...] = ..., reason: str = ..., args: Mapping[str, object] | None = ..., **more: object
    ) -> str: ...


def form_of(page: str) -> dict[str, str]:
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def post(client: httpx.Client, request_id: str, answer: str = "approve", origin: str | None = None, **changes: str) -> httpx.Response:
    path = f"/requests/{request_id}"
    fields = {**form_of(client.get(path).text), "answer": answer, "reason": "fine", **changes}
    headers = {"origin": str(client.base_url).rstrip("/") if origin is None else origin}
    return client.post(path, data=fields, headers=headers)


def state(inbox: Running, request_id: str) -> str:
    request = inbox.service.get(request_id)
    assert request is not None
    return request.state


class TestAnswering:
    @pytest.mark.parametrize(("answer", "expected"), [("approve", "approved"), ("deny", "denied")])
    def test_an_answer_is_recorded_as_the_os_user(self, inbox: Running, answer: str, expected: str) -> None:
        """The answer, its reason and who gave it stand in the store."""
        request_id = inbox.ask(amount=250)
        with inbox.entered() as client:
            assert (303, f"/requests/{request_id}") == (
                (response := post(client, request_id, answer)).status_code,
                response.headers["location"],
            )
            assert expected in client.get(f"/requests/{request_id}").text
        request = inbox.service.get(request_id)
        assert request is not None
        (vote,) = request.votes
        assert (expected, "os:alice", "fine") == (request.state, vote.approver, vote.reason)

    def test_a_reason_of_several_lines(self, inbox: Running) -> None:
        """Browsers send CRLF; what is kept, and given to the agent, has the line ends of a text, and counts them once."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            post(client, request_id, "deny", reason=" one\r\ntwo\r\n" + "x" * 1000)
            assert ": one\\ntwo\\nxxx" in client.get(f"/requests/{request_id}").text
        request = inbox.service.get(request_id)
        assert request is not None
        assert ("one\ntwo\n" + "x" * 992,) == tuple(vote.reason for vote in request.votes)

    def test_the_list_shows_what_waits_and_what_was_answered(self, inbox: Running) -> None:
        """First what waits, then the rest."""
        first, second = inbox.ask("refund", amount=1), inbox.ask("send_mail", to="x")
        inbox.service.answer(first, approver="os:bob", approved=False)
        with inbox.entered() as client:
            page = client.get("/").text
        assert "1 waiting" in page
        assert page.index(second) < page.index("Answered lately") < page.index(first)

    def test_an_answer_by_somebody_else_wins(self, inbox: Running) -> None:
        """The late one is told who was first, and nothing changes."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            fields = form_of(client.get(f"/requests/{request_id}").text)
            inbox.service.answer(request_id, approver="os:bob", approved=False)
            response = client.post(f"/requests/{request_id}", data={**fields, "answer": "approve"}, headers={"origin": inbox.base})
        assert (409, "denied") == (response.status_code, state(inbox, request_id))
        assert "os:bob" in response.text

    def test_who_may_not_answer_is_told(self, inbox: Running) -> None:
        """A rule that asks for somebody else refuses this user."""
        request_id = inbox.ask(approvers=("role:director",))
        with inbox.entered() as client:
            assert (403, "awaiting-approval") == (post(client, request_id).status_code, state(inbox, request_id))

    def test_a_call_changed_meanwhile(self, inbox: Running) -> None:
        """What was shown is what is answered."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            assert (409, "awaiting-approval") == (post(client, request_id, digest="0" * 64).status_code, state(inbox, request_id))

    @pytest.mark.parametrize("answer", ["", "yes", "approved"])
    def test_there_is_no_default_answer(self, inbox: Running, answer: str) -> None:
        """Only the two words count."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            assert (400, "awaiting-approval") == (post(client, request_id, answer).status_code, state(inbox, request_id))

    def test_unknown_request(self, inbox: Running) -> None:
        """A page, not a traceback."""
        with inbox.entered() as client:
            assert 404 == client.get("/requests/nope").status_code


class TestDoor:
    def test_a_stranger_sees_nothing(self, inbox: Running) -> None:
        """Without the cookie there is no page and no answer."""
        request_id = inbox.ask()
        with inbox.client() as client:
            statuses = [
                client.get("/").status_code,
                client.get(f"/requests/{request_id}").status_code,
                post(client, request_id).status_code,
            ]
            assert ([401, 401, 401], "awaiting-approval") == (statuses, state(inbox, request_id))

    def test_a_wrong_token(self, inbox: Running) -> None:
        """It lets nobody in."""
        with inbox.client() as client:
            response = client.get("/enter?token=wrong")
        assert (403, None) == (response.status_code, response.headers.get("set-cookie"))

    def test_the_cookie(self, inbox: Running) -> None:
        """Scripts cannot read it, other sites' requests do not carry it, and the token is not in it."""
        with inbox.client() as client:
            cookie = client.get(inbox.server.url).headers["set-cookie"].lower()
        assert ("httponly" in cookie, "samesite=strict" in cookie, inbox.server.url.partition("=")[2].lower() in cookie) == (
            True,
            True,
            False,
        )

    @pytest.mark.parametrize("host", ["evil.example", "127.0.0.1:1", "127.0.0.1", "", "localhost.evil.example:{port}"])
    def test_other_host_names_are_refused(self, inbox: Running, host: str) -> None:
        """A name that somebody points at this machine does not reach it."""
        with inbox.entered() as client:
            assert 421 == client.get("/", headers={"host": host.format(port=inbox.server.port)}).status_code

    @pytest.mark.parametrize(
        "origin", ["null", "http://evil.example", "", "https://127.0.0.1:{port}", "http://127.0.0.1:{port}.evil.example"]
    )
    def test_other_origins_are_refused(self, inbox: Running, origin: str) -> None:
        """A form on another page cannot answer, even with cookie and CSRF token."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            response = post(client, request_id, origin=origin.format(port=inbox.server.port))
        assert (403, "awaiting-approval") == (response.status_code, state(inbox, request_id))

    def test_another_sites_request(self, inbox: Running) -> None:
        """What the browser says of the sender counts too."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            fields = {**form_of(client.get(f"/requests/{request_id}").text), "answer": "approve"}
            headers = {"origin": inbox.base, "sec-fetch-site": "cross-site"}
            assert 403 == client.post(f"/requests/{request_id}", data=fields, headers=headers).status_code

    def test_csrf_token(self, inbox: Running) -> None:
        """It must be there, and be of this session."""
        request_id = inbox.ask()
        with inbox.entered() as client, inbox.entered() as other:
            foreign = form_of(other.get(f"/requests/{request_id}").text)["csrf"]
            statuses = [post(client, request_id, csrf=csrf).status_code for csrf in ("", "x", foreign)]
        assert ([403, 403, 403], "awaiting-approval") == (statuses, state(inbox, request_id))

    def test_get_changes_nothing(self, inbox: Running) -> None:
        """An answer in the address does not count, and no other method is known."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            client.get(f"/requests/{request_id}?answer=approve&csrf=x")
            statuses = [client.request(method, f"/requests/{request_id}").status_code for method in ("PUT", "DELETE", "PATCH")]
        assert ([405, 405, 405], "awaiting-approval") == (statuses, state(inbox, request_id))

    def test_a_body_over_the_limit(self, inbox: Running) -> None:
        """It is refused, with a length and without one."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            big = post(client, request_id, reason="x" * 20_000)
            chunked = client.post(f"/requests/{request_id}", content=iter([b"x" * 9000, b"x" * 9000]), headers={"origin": inbox.base})
        assert (413, 413, "awaiting-approval") == (big.status_code, chunked.status_code, state(inbox, request_id))

    def test_other_kinds_of_body(self, inbox: Running) -> None:
        """JSON and plain text, which other pages may send without asking, answer nothing."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            fields = form_of(client.get(f"/requests/{request_id}").text)
            body = "&".join(f"{name}={value}" for name, value in {**fields, "answer": "approve"}.items())
            headers = {"origin": inbox.base, "content-type": "text/plain"}
            assert 403 == client.post(f"/requests/{request_id}", content=body, headers=headers).status_code


class TestPages:
    def test_headers(self, inbox: Running) -> None:
        """Every answer of the server carries them, refusals too."""
        with inbox.entered() as client:
            for response in (client.get("/"), client.get("/inbox.css"), client.get("/nope"), client.get("/", headers={"host": "evil"})):
                assert "default-src 'none'" in response.headers["content-security-policy"]
                assert "script" not in response.headers["content-security-policy"]
                assert ("nosniff", "DENY", "no-store") == tuple(
                    response.headers[name] for name in ("x-content-type-options", "x-frame-options", "cache-control")
                )

    def test_what_a_model_wrote_is_text(self, inbox: Running) -> None:
        """Markup, quotes and invisible characters in arguments, names and reasons never act."""
        request_id = inbox.ask(
            '<img src=x onerror="alert(1)">',
            reason="</p><script>alert(1)</script>",
            args={'"><b>': "safe\u202etxt.exe<script>", "long": "<script>" * 200},
        )
        with inbox.entered() as client:
            pages = [client.get("/").text, client.get(f"/requests/{request_id}").text]
        for page in pages:
            assert not re.search(r"<script|<img|<b>|\u202e", page)
        assert "\\u{202e}" in pages[1]

    def test_secrets_are_concealed(self, inbox: Running) -> None:
        """A password is shown as length and hash."""
        request_id = inbox.ask(password="hunter2hunter2")
        with inbox.entered() as client:
            page = client.get(f"/requests/{request_id}").text
        assert ("hunter2" in page, "14 bytes" in page) == (False, True)

    def test_long_values_are_one_step_away(self, inbox: Running) -> None:
        """Cut with a mark, whole in a fold."""
        request_id = inbox.ask(body="x" * 5000 + "END")
        with inbox.entered() as client:
            page = client.get(f"/requests/{request_id}").text
        assert "<details><summary>all 5,005 characters</summary>" in page
        assert "END" in page

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (["\u05d0\u05d1", 100, 250], "[<bdi>&quot;\u05d0\u05d1&quot;</bdi>, 100, 250]"),
            ('a"\\<b>', "<bdi>&quot;a\\&quot;\\\\&lt;b&gt;&quot;</bdi>"),
            (7, "7"),
        ],
    )
    def test_letters_from_right_to_left(self, inbox: Running, value: object, shown: str) -> None:
        """Each text is isolated, or Hebrew would show `["x", 100, 250]` as `[250, 100, "x"]`."""
        request_id = inbox.ask(args={"amounts": value})
        with inbox.entered() as client:
            assert f"<pre>{shown}</pre>" in client.get(f"/requests/{request_id}").text
            assert f"<code><bdi>amounts</bdi>={shown}</code>" in client.get("/").text

    def test_a_long_text_stays_isolated_where_it_is_cut(self, inbox: Running) -> None:
        """The list shows the first 120 characters, and how many there are more."""
        alef = "\u05d0"
        inbox.ask(args={"a": alef * 300})
        with inbox.entered() as client:
            assert f"=<bdi>&quot;{alef * 117}</bdi>… (184 more)</code>" in client.get("/").text

    def test_a_call_without_arguments(self, inbox: Running) -> None:
        """The list says that there are none."""
        inbox.ask()
        with inbox.entered() as client:
            assert "<code>no arguments</code>" in client.get("/").text

    def test_the_list_can_stand_still(self, inbox: Running) -> None:
        """It reloads by itself, which takes the keyboard's place away; the link before the first request stops it."""
        inbox.ask()
        with inbox.entered() as client:
            moving, still = client.get("/").text, client.get("/?still").text
        assert ('<meta http-equiv="refresh" content="5">' in moving, 'http-equiv="refresh"' in still) == (True, False)
        assert moving.index('href="/?still"') < moving.index('href="/requests/')
        assert '<a href="/">Reload by itself</a>' in still

    def test_the_reason_is_the_only_field(self, inbox: Running) -> None:
        """No single-line field: the Enter key submits nothing by itself."""
        request_id = inbox.ask()
        with inbox.entered() as client:
            page = client.get(f"/requests/{request_id}").text
        assert not re.search(r'<input (?!type="hidden")', page)
        assert 'label for="reason"' in page


class TestListening:
    @pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.com", ""])
    def test_loopback_only(self, host: str) -> None:
        """Anything else is refused, with the way around."""
        with pytest.raises(ConfigError, match="on this machine only"):
            loopback(host)

    @pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.1.2.3"])
    def test_loopback_addresses(self, host: str) -> None:
        """These are this machine."""
        assert loopback(host) in {"127.0.0.1", host}

    @pytest.mark.parametrize(("port", "expected"), [(80, True), (8080, False)])
    def test_a_host_without_a_port(self, port: int, expected: bool) -> None:
        """Browsers leave out the port that http has by itself, and no other."""
        door = Door("t", b"k", port, str)
        assert (expected, True) == (door.host_allowed("localhost"), door.host_allowed(f"127.0.0.1:{port}"))

    @pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
    def test_its_own_address_is_let_in(self, inbox: Running, host: str) -> None:
        """Whatever loopback address it was told, the printed one works."""
        try:
            server = InboxServer(inbox.service, "os:alice", host)
        except RuntimeStateError as problem:
            pytest.skip(f"this machine has no address {host}: {problem}")
        thread = threading.Thread(target=server.run)
        thread.start()
        with httpx.Client(trust_env=False, follow_redirects=True, timeout=60) as client:
            status = client.get(server.url).status_code
        server.stop()
        thread.join(60)
        assert 200 == status

    def test_a_taken_port(self, inbox: Running) -> None:
        """It is said, with what to do."""
        with pytest.raises(RuntimeStateError, match="take another port"):
            InboxServer(inbox.service, "os:alice", port=inbox.server.port)

    def test_a_silent_client_holds_nobody_up(self, inbox: Running) -> None:
        """A connection that sends nothing leaves the inbox answering."""
        with socket.create_connection(("127.0.0.1", inbox.server.port)), inbox.entered() as client:
            assert 200 == client.get("/").status_code
