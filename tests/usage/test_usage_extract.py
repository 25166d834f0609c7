"""Usage of any provider becomes one record."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import CompletionUsage
from openai.types.chat import ChatCompletion
from openai.types.completion_usage import CompletionTokensDetails, PromptTokensDetails
from pydantic import BaseModel, ConfigDict, PrivateAttr

from otel_runtime.usage.extract import extract
from otel_runtime.usage.fields import TOKEN_ALIASES, token_counts
from otel_runtime.values.usage import Cost, ResponseFacts, RunRef, TokenUsage, UsageRecord

FIGURES = st.one_of(st.none(), st.integers(-1, 9), st.booleans(), st.floats(), st.just("3"))
ANTHROPIC = {
    "id": "msg_1",
    "type": "message",
    "model": "claude-sonnet-4-5",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 10, "output_tokens": 5, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 20},
}
GEMINI = {
    "responseId": "g1",
    "modelVersion": "gemini-2.5-flash",
    "candidates": [{"finishReason": "STOP"}],
    "usageMetadata": {
        "promptTokenCount": 50,
        "candidatesTokenCount": 20,
        "thoughtsTokenCount": 30,
        "cachedContentTokenCount": 10,
        "totalTokenCount": 100,
    },
}


def chat_completion() -> ChatCompletion:
    return ChatCompletion.model_validate(
        {
            "id": "chatcmpl-1",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt-4o-2024-08-06",
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {"role": "assistant", "content": None}}],
            "usage": CompletionUsage(
                prompt_tokens=1000,
                completion_tokens=100,
                total_tokens=1100,
                prompt_tokens_details=PromptTokensDetails(cached_tokens=200),
                completion_tokens_details=CompletionTokensDetails(reasoning_tokens=64),
            ),
        }
    )


def usage_of(response: object) -> TokenUsage:
    record = extract(response)
    assert record is not None
    return record.usage


class TestProviders:
    def test_openai_chat_object(self) -> None:
        """The SDK's own response object is read by attribute, cached and reasoning tokens as subsets."""
        expected = UsageRecord(
            TokenUsage(1000, 100, 1100, cache_read=200, reasoning=64),
            "gpt-4o-2024-08-06",
            "openai",
            ResponseFacts("chatcmpl-1", ("tool_calls",)),
            run=RunRef(message="chatcmpl-1"),
        )
        assert expected == extract(chat_completion())

    def test_openai_dict_equals_object(self) -> None:
        """A dict of the same response gives the same record."""
        assert extract(chat_completion()) == extract(chat_completion().model_dump())

    def test_openai_responses_api(self) -> None:
        """The responses API names its fields differently and means the same."""
        response = {
            "id": "resp_1",
            "object": "response",
            "status": "completed",
            "model": "gpt-5",
            "usage": {
                "input_tokens": 30,
                "input_tokens_details": {"cached_tokens": 8},
                "output_tokens": 12,
                "output_tokens_details": {"reasoning_tokens": 4},
                "total_tokens": 42,
            },
        }
        assert TokenUsage(30, 12, 42, cache_read=8, reasoning=4) == usage_of(response)
        record = extract(response)
        assert record is not None
        assert ("openai", ("completed",)) == (record.provider, record.response.finish_reasons)

    def test_anthropic_cache_is_added(self) -> None:
        """Anthropic reports cached tokens beside the input; the record counts them inside."""
        assert TokenUsage(130, 5, 135, cache_read=100, cache_write=20) == usage_of(ANTHROPIC)
        record = extract(ANTHROPIC)
        assert record is not None
        assert ("anthropic", ("end_turn",)) == (record.provider, record.response.finish_reasons)

    def test_gemini_thoughts_are_output(self) -> None:
        """Gemini counts thoughts beside the candidates; the record's output includes them."""
        assert TokenUsage(50, 50, 100, cache_read=10, reasoning=30) == usage_of(GEMINI)
        record = extract(GEMINI)
        assert record is not None
        assert ("gcp.gemini", "gemini-2.5-flash", ("STOP",)) == (record.provider, record.model, record.response.finish_reasons)

    def test_bedrock_converse(self) -> None:
        """Bedrock's Converse spells in camel case and reports cache beside."""
        response = {
            "output": {"message": {}},
            "stopReason": "end_turn",
            "usage": {"inputTokens": 7, "outputTokens": 3, "totalTokens": 10, "cacheReadInputTokens": 5, "cacheWriteInputTokens": 0},
        }
        assert TokenUsage(12, 3, 15, cache_read=5, cache_write=0) == usage_of(response)

    def test_litellm_keeps_prompt_tokens(self) -> None:
        """LiteLLM repeats Anthropic's cache fields next to prompt_tokens that already include them; its reported cost wins."""

        class Response:
            usage = {"prompt_tokens": 130, "completion_tokens": 5, "total_tokens": 135, "cache_read_input_tokens": 100}  # noqa: RUF012
            model = "claude"
            _hidden_params = {"custom_llm_provider": "anthropic", "response_cost": 0.25}  # noqa: RUF012

        record = extract(Response())
        assert record is not None
        assert TokenUsage(130, 5, 135, cache_read=100) == record.usage
        assert Cost(Decimal("0.25"), "USD", estimated=False, source="provider") == record.cost
        assert "anthropic" == record.provider

    def test_bare_usage_of_an_agent_runtime(self) -> None:
        """A usage object alone, in the spelling of agent runtimes, is enough."""
        assert TokenUsage(4, 2, 6) == usage_of({"promptTokens": 4, "completionTokens": 2})


class TestAliasRules:
    def test_absent_stays_absent(self) -> None:
        """What was not said is None, never 0, and no total is made up."""
        assert TokenUsage(input_tokens=3) == usage_of({"usage": {"prompt_tokens": 3}})

    def test_first_finite_alias_wins(self) -> None:
        """A NaN, a bool or a negative figure is passed over."""
        usage = {"inputTokens": float("nan"), "promptTokens": True, "input_tokens": -1, "prompt_tokens": 9, "output_tokens": 1}
        assert TokenUsage(9, 1, 10) == usage_of({"usage": usage})

    def test_zero_is_a_figure(self) -> None:
        """A reported 0 is kept."""
        assert TokenUsage(0, 0, 0) == usage_of({"usage": {"prompt_tokens": 0, "completion_tokens": 0}})

    def test_unrecognised_fields_become_details(self) -> None:
        """A non-empty object without any known field is kept as details."""
        assert TokenUsage(details={"credits": 3}) == usage_of({"usage": {"credits": 3}})

    @pytest.mark.parametrize("nothing", [None, "text", 3, {}, [], {"usage": None}, {"usage": {}}, {"id": "x"}, object()])
    def test_nothing_to_read(self, nothing: object) -> None:
        """An object without usage gives None."""
        assert extract(nothing) is None

    def test_raising_attribute(self) -> None:
        """An object whose attributes raise gives None."""

        class Hostile:
            def __getattr__(self, name: str) -> object:
                raise RuntimeError(name)

        assert extract(Hostile()) is None

    @given(
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner))
    )
    def test_never_raises(self, anything: Any) -> None:
        """Whatever is handed in, a record or None comes out."""
        record = extract({"usage": anything, "choices": anything, "model": anything})
        assert record is None or isinstance(record, UsageRecord)


class Answer(BaseModel):
    """A client's response, as clients make them."""

    model_config = ConfigDict(extra="allow")
    id: str = "r1"
    model: str = "m"
    usage: dict[str, int] | None = None


class Speaks(Answer):
    """One of which a part is no field."""

    @property
    def usageMetadata(self) -> dict[str, int]:  # noqa: N802  # as a provider spells it
        return {"promptTokenCount": 4, "candidatesTokenCount": 1}


class Hides(Answer):
    """One that keeps a part to itself, as LiteLLM's do."""

    _hidden_params: dict[str, object] = PrivateAttr(default_factory=lambda: {"custom_llm_provider": "azure", "response_cost": 2})


class Guesses(Answer):
    """One that answers for names it does not have."""

    def __getattr__(self, name: str) -> object:
        if name == "usage_metadata":
            return {"promptTokenCount": 6}
        raise AttributeError(name)


class TestModels:
    def test_fields_and_extras(self) -> None:
        """Fields a model declares and those it only kept are read alike."""
        assert TokenUsage(3, 2, 5) == usage_of(Answer(usage={"prompt_tokens": 3, "completion_tokens": 2}))
        assert TokenUsage(3) == usage_of(Answer.model_validate({"usageMetadata": {"promptTokenCount": 3}}))
        assert TokenUsage(7) == usage_of(Answer.model_validate({"usage": None, "input_tokens": 7}))

    def test_what_a_model_says_by_itself(self) -> None:
        """A property, a private attribute and an answer made up on the spot are heard as well."""
        assert TokenUsage(4, 1, 5) == usage_of(Speaks())
        hidden = extract(Hides(usage={"prompt_tokens": 3}))
        assert hidden is not None
        assert ("azure", Decimal(2)) == (hidden.provider, hidden.cost and hidden.cost.amount)
        assert TokenUsage(6) == usage_of(Guesses())

    @given(st.dictionaries(st.sampled_from(sorted(name for names in TOKEN_ALIASES.values() for name in names)), FIGURES, max_size=8))
    def test_dict_and_object_agree(self, usage: dict[str, object]) -> None:
        """A usage is read the same from a dict, key by key, and from an object, name by name."""
        details = dict.fromkeys(usage, 5) | {"cached_tokens": 7}
        as_objects = SimpleNamespace(**usage), [SimpleNamespace(**details), SimpleNamespace(reasoning_tokens=8)]
        assert token_counts(*as_objects) == token_counts(usage, [details, {"reasoning_tokens": 8}])
