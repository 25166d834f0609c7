"""Content is off by default; when on it is short, valid, redacted JSON, and nothing of the user's is run or consumed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from pydantic import BaseModel, ValidationError

from otel_runtime.errors import ConfigError
from otel_runtime.settings.model import Settings
from otel_runtime.telemetry.capture import MAX_BYTES, Capture, capture_mode
from otel_runtime.telemetry.protocol import SpanStart
from otel_runtime.telemetry.redaction import Redactor

REDACTOR = Redactor()
CAPTURE = Capture("SPAN_ONLY", REDACTOR)
VARIABLE = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"


def shown(value: object) -> Any:
    text = CAPTURE.json(value)
    assert len(text.encode()) <= MAX_BYTES
    return json.loads(text)


class TestSwitch:
    @pytest.mark.parametrize(
        ("setting", "variable", "mode"),
        [
            (None, None, "NO_CONTENT"),
            (None, "true", "SPAN_ONLY"),
            (None, "False", "NO_CONTENT"),
            (None, "span_and_event", "SPAN_AND_EVENT"),
            ("NO_CONTENT", "SPAN_ONLY", "NO_CONTENT"),
        ],
    )
    def test_modes(self, setting: str | None, variable: str | None, mode: str) -> None:
        """Our setting wins over the ecosystem's variable, whose older values are understood."""
        assert (mode, None) == capture_mode(setting, variable)

    def test_bad_value_captures_nothing(self, make_bench: Any) -> None:
        """A bad value captures nothing and is reported."""
        bench = make_bench(environ={VARIABLE: "yes please"})
        bench.tracing.open(SpanStart("tool", "x", arguments={"a": 1})).end("ok", result=2)
        assert "gen_ai.tool.call.arguments" not in bench.span("execute_tool x").attributes
        assert "`yes please` is no capture mode" in bench.tracing.report()["problems"][VARIABLE]

    def test_off_by_default(self, bench: Any) -> None:
        """Without a switch no argument and no result leaves."""
        bench.tracing.open(SpanStart("tool", "x", arguments={"a": "secret-ish"})).end("ok", result="secret-ish")
        assert not bench.tracing.captures
        assert "secret-ish" not in str(bench.span("execute_tool x"))

    def test_tool_agent_and_model_keys(self, make_bench: Any) -> None:
        """Each operation uses the key that back ends read."""
        bench = make_bench(capture="SPAN_ONLY")
        bench.tracing.open(SpanStart("tool", "x", arguments={"self": object(), "a": 1})).end("ok", result=[2])
        bench.tracing.open(SpanStart("agent", "y", arguments={"a": 1})).end("ok", result=[2])
        bench.tracing.open(SpanStart("model", "z", arguments={"messages": [{"role": "user", "content": "q"}], "n": 1})).end(
            "ok", result="hi"
        )
        tool, agent, model = (bench.span(name).attributes for name in ("execute_tool x", "invoke_agent y", "chat z"))
        assert ('{"a":1}', "[2]") == (tool["gen_ai.tool.call.arguments"], tool["gen_ai.tool.call.result"])
        assert ('{"a":1}', "[2]") == (agent["otel_runtime.arguments"], agent["otel_runtime.result"])
        assert '[{"role":"user","parts":[{"type":"text","content":"q"}]}]' == model["gen_ai.input.messages"]
        assert '[{"role":"assistant","parts":[{"type":"text","content":"hi"}],"finish_reason":"stop"}]' == model["gen_ai.output.messages"]

    @pytest.mark.parametrize(("mode", "on_span", "events"), [("EVENT_ONLY", False, 1), ("SPAN_AND_EVENT", True, 1), ("SPAN_ONLY", True, 0)])
    def test_where_content_goes(self, make_bench: Any, mode: str, on_span: bool, events: int) -> None:
        """Content is on the span, in an event of it, or both, as the mode says; other than model calls use an event of our own name."""
        bench = make_bench(environ={VARIABLE: mode})
        assert bench.tracing.captures
        bench.tracing.open(SpanStart("model", "m", arguments={"prompt": "hi"})).end("ok", result="ho")
        bench.tracing.open(SpanStart("tool", "t", arguments={"a": 1})).end("ok", result=2)
        model, tool = bench.span("chat m"), bench.span("execute_tool t")
        assert (on_span, on_span) == ("gen_ai.input.messages" in model.attributes, "gen_ai.tool.call.result" in tool.attributes)
        assert ["gen_ai.client.inference.operation.details"] * events == [event.name for event in model.events]
        assert ["otel_runtime.content"] * events == [event.name for event in tool.events]
        for event in tool.events:
            assert {"gen_ai.tool.call.arguments": '{"a":1}', "gen_ai.tool.call.result": "2"} == event.attributes

    def test_arguments_are_bound_only_when_recorded(self, make_bench: Any) -> None:
        """A call that is sampled out binds nothing; one that is recorded binds once."""
        asked: list[str] = []

        def bind() -> dict[str, object]:
            asked.append("bound")
            return {"a": 1}

        out = make_bench(capture="SPAN_ONLY", sampler=ALWAYS_OFF)
        out.tracing.open(SpanStart("tool", "x", arguments=bind)).end("ok", result=object())
        assert [] == asked
        kept = make_bench(capture="SPAN_ONLY")
        kept.tracing.open(SpanStart("tool", "x", arguments=bind)).end("ok")
        assert (["bound"], '{"a":1}') == (asked, kept.span("execute_tool x").attributes["gen_ai.tool.call.arguments"])

    def test_arguments_as_they_were(self, make_bench: Any) -> None:
        """What the body changes afterwards does not change what was captured."""
        bench = make_bench(capture="SPAN_ONLY")
        given = {"rows": [1]}
        span = bench.tracing.open(SpanStart("tool", "x", arguments=given))
        given["rows"].append(2)
        span.end("ok")
        assert '{"rows":[1]}' == bench.span("execute_tool x").attributes["gen_ai.tool.call.arguments"]

    def test_capture_switch_refuses(self) -> None:
        """Our own setting with a bad value is refused."""
        with pytest.raises(ValidationError):
            Settings(capture="sometimes")  # type: ignore[arg-type]  # that is the test


class TestBounds:
    def test_plain_data(self) -> None:
        """Plain data stays as it is."""
        value = {"a": [1, 2.5, None, True], "b": {"c": "d"}, "e": (1,), "money": Decimal("1.10")}
        assert {"a": [1, 2.5, None, True], "b": {"c": "d"}, "e": [1], "money": "1.10"} == shown(value)

    def test_cuts_are_marked_with_the_size(self) -> None:
        """What was cut says how large it was."""
        assert shown("x" * 5_000_000).endswith("…(5000000 characters)")
        assert "…(1000 items)" == shown(list(range(1000)))[-1]
        assert "(1000 entries)" == shown({str(number): number for number in range(1000)})["…"]

    def test_cycles_and_depth(self) -> None:
        """A cycle and ten thousand levels end in a mark."""
        cycle: list[object] = []
        cycle.append(cycle)
        assert ["<cycle>"] == shown(cycle)
        deep: list[object] = []
        for _ in range(10_000):
            deep = [deep]
        assert "deeper than 8" in json.dumps(shown(deep))

    def test_objects_are_named_not_shown(self) -> None:
        """No repr, no iteration, no property: an unknown object is its type's name."""

        class Trap:
            def __repr__(self) -> str:
                raise RuntimeError("repr")

            def __iter__(self) -> Iterator[int]:
                raise RuntimeError("iter")

        assert shown(Trap()).endswith("Trap>")
        assert "<builtins.module>" == shown(json)
        stream = iter([1, 2, 3])
        shown({"stream": stream})
        assert [1, 2, 3] == list(stream)

    def test_subclasses_do_not_run(self) -> None:
        """Methods of a dict's or list's subclass are not called."""

        class Loud(dict[str, int]):
            def items(self) -> Any:
                raise RuntimeError("items")

            def __iter__(self) -> Iterator[str]:
                raise RuntimeError("iter")

        assert {"a": 1} == shown(Loud(a=1))

    def test_records(self) -> None:
        """Dataclasses and pydantic models show their fields."""

        @dataclass
        class Point:
            x: int
            password: str

        class Model(BaseModel):
            y: int
            api_key: str

        assert {"x": 1, "password": "[redacted]"} == shown(Point(1, "p"))
        assert {"y": 2, "api_key": "[redacted]"} == shown(Model(y=2, api_key="k"))

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda part: st.lists(part) | st.dictionaries(st.text() | st.integers(), part) | st.tuples(part, part),
            max_leaves=200,
        )
    )
    def test_always_valid_and_short(self, anything: object) -> None:
        """Whatever is captured is valid JSON (which knows no NaN) within the bound."""
        text = CAPTURE.json(anything)
        assert len(text.encode()) <= MAX_BYTES
        constants: list[str] = []
        json.loads(text, parse_constant=constants.append)
        assert [] == constants


class TestRedaction:
    @pytest.mark.parametrize("key", ["password", "Api-Key", "accessToken", "client_secret", "DB_PASSWORD", "authorization", "Set-Cookie"])
    def test_keys(self, key: str) -> None:
        """Values under these keys never leave."""
        assert {key: "[redacted]"} == shown({key: {"nested": "value"}})

    @pytest.mark.parametrize("key", ["max_tokens", "input_tokens", "totalTokens", "token_count", "author", "secretary"])
    def test_token_counts_are_no_secrets(self, key: str) -> None:
        """Counts and harmless words stay."""
        assert {key: 5} == shown({key: 5})

    @pytest.mark.parametrize(
        "secret",
        [
            "sk-abcdefghijklmnop1234",
            "ghp_abcdefghijklmnopqrstuvwx",
            "AKIAABCDEFGHIJKLMNOP",
            "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
            "Bearer abcdefgh12345678",
            "xoxb-1234567890-abcdef",
            "-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----",
        ],
    )
    def test_patterns(self, secret: str) -> None:
        """Text that looks like a credential is masked wherever it stands."""
        assert "before [redacted] after" == REDACTOR.mask(f"before {secret} after")

    def test_json_inside_a_string(self) -> None:
        """Secrets in JSON that is itself a string are found."""
        assert "hunter2" not in CAPTURE.json({"arguments": json.dumps({"password": "hunter2", "n": 1})})

    def test_own_keys_and_patterns(self) -> None:
        """Settings add keys and patterns."""
        own = Redactor(["Kunden-Nr"], [r"order-\d+"])
        assert (True, "an [redacted] here") == (own.secret_key("kundenNr"), own.mask("an order-77 here"))

    def test_bad_pattern_is_refused(self) -> None:
        """A pattern that is no RE2 expression is a configuration error that names it."""
        with pytest.raises(ConfigError, match=r"`\(\?=x\)` is not an RE2 expression"):
            Redactor(patterns=["(?=x)", "fine"])
