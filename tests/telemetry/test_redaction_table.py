"""Before and after, for everything that leaves: arguments, results, messages, exceptions, stack traces, status texts."""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path
from typing import Any

import pytest

import otel_runtime
from otel_runtime.telemetry.capture import Capture
from otel_runtime.telemetry.message_capture import MessageCapture
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.redaction import Redactor

REDACTOR = Redactor()
CAPTURE = Capture("SPAN_ONLY", REDACTOR)
MESSAGES = MessageCapture(CAPTURE, REDACTOR)

# Before and after. Secrets are put together here, so that no scanner of repositories takes them for real ones.
A20, A30, A40 = "abcdefghij" * 2, "abcdefghij" * 3, "abcdefghij" * 4
TABLE = [
    (f"use sk-{A20} now", "use [redacted] now"),
    (f"use sk-ant-api03-{A20}", "use [redacted]"),
    (f"sk-proj-{A20}_x", "[redacted]"),
    (f"(ghp_{A30})", "([redacted])"),
    (f"github_pat_{A30}", "[redacted]"),
    (f"hf_{A30} and gsk_{A30}", "[redacted] and [redacted]"),
    (f"glpat-{A20}", "[redacted]"),
    ("xoxb-" + "1234567890-abc", "[redacted]"),
    ("AKIA" + "ABCDEFGHIJKLMNOP", "[redacted]"),
    ("AIza" + A40, "[redacted]"),
    (f"ya29.{A30}", "[redacted]"),
    ("sk_live" + f"_{A20}", "[redacted]"),
    (f"SG.{A20}.{A20}", "[redacted]"),
    (f"aws_secret_access_key = {A40}", "aws_secret_access_key = [redacted]"),
    ("eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl!", "[redacted]!"),
    ("Authorization: Bearer abcdefgh12345678", "Authorization: [redacted]"),
    ("Authorization: Token abcdefgh", "Authorization: Token [redacted]"),
    ('{"authorization": "Basic dXNlcjpwYXNz"}', '{"authorization": "Basic [redacted]"}'),
    ("bearer abcdefgh12345678 sent", "[redacted] sent"),
    ("Cookie: session=abc; theme=dark\nHost: x", "Cookie: [redacted]\nHost: x"),
    ("Set-Cookie: id=abc; HttpOnly", "Set-Cookie: [redacted]"),
    ("postgres://shop:hunter2@db/x", "postgres://[redacted]@db/x"),
    ("https://:hunter2@host/", "https://[redacted]@host/"),
    ("https://b.example/x?sig=abcdefgh12345&se=1", "https://b.example/x?sig=[redacted]&se=1"),
    ("password=hunter2&user=carla", "password=[redacted]&user=carla"),
    ("DB_PASSWORD: hunter2", "DB_PASSWORD: [redacted]"),
    ("OPENAI_API_KEY='abc'", "OPENAI_API_KEY='[redacted]'"),
    ('{"password": "hunter2", "n": 1}', '{"password": "[redacted]", "n": 1}'),
    ('{\\"api_key\\": \\"abc\\"}', '{\\"api_key\\": \\"[redacted]\\"}'),
    ("{'ssn': '123-45-6789', 'n': 1}", "{'ssn': '[redacted]', 'n': 1}"),
    ("{'Card-Number': 4111, 'cvv': '1'}", "{'Card-Number': [redacted], 'cvv': '[redacted]'}"),
    ('{\\"cookie\\": \\"a b, c\\"}', '{\\"cookie\\": \\"[redacted]\\"}'),
    ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "[redacted]"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----\nabc", "[redacted]"),
    ("first\nsk-" + A20, "first\n[redacted]"),
]
# What must stay, so that redaction is never switched off for being a nuisance.
PLAIN = [
    "input_tokens: 12, output_tokens: 34, max_tokens=500",
    "time_to_first_token: 0.35",
    "cost_per_token=0.000002",
    "carla@shop.example wrote to https://shop.example/orders/7?page=2",
    "the secretary keeps no cookies: none",
    "ask-me-anything-about-this-very-long-hyphenated-name",
    "task: basic arithmetic",
    "{'author': 'Jane', 'auth': None, 'pins': 4, 'access_token': 5}",
    "press 'pin': it is pinned",
    "order 1234567890123456",
    "2026-11-20T09:00:00Z",
    "é ü 漢字",
]


class TestText:
    @pytest.mark.parametrize(("before", "after"), TABLE)
    def test_masked(self, before: str, after: str) -> None:
        """Every kind of secret is masked, and nothing beside it."""
        assert after == REDACTOR.mask(before)

    @pytest.mark.parametrize("before", PLAIN)
    def test_kept(self, before: str) -> None:
        """What is no secret stays."""
        assert before == REDACTOR.mask(before)

    @pytest.mark.parametrize(("before", "after"), TABLE)
    def test_masking_twice_changes_nothing(self, before: str, after: str) -> None:
        """A text that was masked before is left as it is."""
        assert after == REDACTOR.mask(after)

    def test_time_is_linear(self) -> None:
        """A megabyte made for regular expressions to stumble over costs what any megabyte costs."""
        began = time.monotonic()
        for text in ("a" * 1_000_000, "password=" * 110_000, "://:" * 250_000, "eyJ" * 330_000, "-----BEGIN " * 90_000):
            REDACTOR.mask(text)
        # Generous: an expression that backtracks would take hours.
        assert time.monotonic() - began < 60


class TestOwnKeys:
    def test_in_text(self) -> None:
        """A key of the user's is secret where a text shows data, such as the message of an error, as it is in data."""
        redactor = Redactor(["patient-id"])
        assert "{'patient_id': '[redacted]', 'patient': 'x'}" == redactor.mask("{'patient_id': 'Bob, B.', 'patient': 'x'}")
        assert redactor.suspicious("{'Patient ID': 12}")
        assert not redactor.suspicious("{'patient': 'Bob'}")

    @pytest.mark.parametrize("key", ["", "-", " _ "])
    def test_no_name(self, key: str) -> None:
        """A key that names nothing is refused, as a bad pattern is."""
        with pytest.raises(otel_runtime.ConfigError, match="names no key"):
            Redactor([key])


class TestEverywhere:
    @pytest.mark.parametrize(("before", "after"), TABLE)
    def test_captured(self, before: str, after: str) -> None:
        """Arguments and results, however deep, as values, in lists and behind harmless keys."""
        assert {"note": [after], "deep": {"er": after}} == json.loads(CAPTURE.json({"note": [before], "deep": {"er": before}}))

    @pytest.mark.parametrize(("before", "after"), TABLE)
    def test_messages(self, before: str, after: str) -> None:
        """Messages to and from a model."""
        (asked,) = json.loads(MESSAGES.asked({"messages": [{"role": "user", "content": before}]}))
        assert after == asked["parts"][0]["content"]
        assert after == json.loads(MESSAGES.answered(before))[0]["parts"][0]["content"]

    @pytest.mark.parametrize(("before", "after"), TABLE)
    def test_exceptions(self, bench: Any, before: str, after: str) -> None:
        """Exception messages, stack traces and the status."""

        def fails() -> None:
            raise ValueError(before)

        with pytest.raises(ValueError) as caught:  # noqa: PT011 - any text of the table
            fails()
        bench.tracing.open(SpanStart("tool", "x")).end("error", caught.value)
        span = bench.span("execute_tool x")
        event = span.events[0].attributes
        assert (after, f"ValueError: {after}") == (event["exception.message"], span.message)
        assert f"ValueError: {after}" in event["exception.stacktrace"]

    @pytest.mark.parametrize(("before", "after"), TABLE)
    @pytest.mark.parametrize("name", ["otel_runtime", "otel_runtime.wrap"])
    def test_logs(self, bench: Any, caplog: pytest.LogCaptureFixture, name: str, before: str, after: str) -> None:
        """Our own log records: the message and the traceback of whatever failed."""
        log = logging.getLogger(name)
        log.warning("it failed: %s", before)
        try:
            raise ValueError(before)  # noqa: TRY301  # a traceback is wanted
        except ValueError:
            log.exception("it failed")
        assert f"it failed: {after}\n" in caplog.text
        assert f"ValueError: {after}" in caplog.text
        assert before == after or before not in caplog.text.replace("ValueError(before)", "")

    def test_every_logger_is_masked(self, bench: Any) -> None:
        """No module of ours has a logger that the masking does not know."""
        package = Path(otel_runtime.__file__).parent
        asked: set[str] = set()
        for path in package.rglob("*.py"):
            own = ".".join(("otel_runtime", *path.relative_to(package).with_suffix("").parts))
            for name in re.findall(r"getLogger\((__name__|\"otel_runtime[a-z_.]*\")\)", path.read_text()):
                asked.add(own if name == "__name__" else name.strip('"'))
        assert len(asked) > 5
        assert [] == sorted(name for name in asked if not any("mask" in repr(type(one)).lower() for one in logging.getLogger(name).filters))

    def test_logs_with_own_patterns(self, make_bench: Any, caplog: pytest.LogCaptureFixture) -> None:
        """The settings' own patterns count for logs too; arguments that do not fit the message are logging's to complain of."""
        make_bench(redact_patterns=(r"order-\d+",))
        logging.getLogger("otel_runtime").warning("of %s", "order-77")
        assert "of [redacted]" in caplog.text

    def test_a_secret_on_the_edge_of_a_cut(self) -> None:
        """A secret that begins before a cut and ends behind it leaves no part of itself."""
        for before in range(1_500, 2_000, 7):
            assert "sk-" not in CAPTURE.json("x" * before + " sk-" + A40 + " " + "y" * 5_000)


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            "password",
            "Api-Key",
            "accessToken",
            "client_secret",
            "DB_PASSWORD",
            "authorization",
            "Set-Cookie",
            "cookies",
            "sessionId",
            "pin",
            "Token",
        ],
    )
    @pytest.mark.parametrize("value", ["v", ["v"], {"a": "v"}])
    def test_masked(self, key: str, value: object) -> None:
        """Whatever stands under these keys never leaves."""
        assert {key: "[redacted]"} == json.loads(CAPTURE.json({key: value}))

    @pytest.mark.parametrize(
        "key", ["max_tokens", "input_tokens", "totalTokens", "token_count", "cost_per_token", "author", "secretary", "pinned"]
    )
    def test_counts_stay(self, key: str) -> None:
        """Token counts and rates, and words that only look alike, stay."""
        assert {key: 5} == json.loads(CAPTURE.json({key: 5}))
