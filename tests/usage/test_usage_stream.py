"""The usage of a stream is collected chunk by chunk."""

from __future__ import annotations

from enum import Enum
from types import SimpleNamespace

from openai.types.chat import ChatCompletionChunk

from otel_runtime.usage.stream import StreamUsage, final_response
from otel_runtime.values.usage import ResponseFacts, TokenUsage, UsageRecord


def collected(*chunks: object) -> UsageRecord:
    usage = StreamUsage()
    for chunk in chunks:
        usage.feed(chunk)
    record = usage.record()
    assert record is not None
    return record


def openai_chunk(**fields: object) -> ChatCompletionChunk:
    return ChatCompletionChunk.model_validate(
        {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o", "choices": [], **fields}
    )


class TestStreams:
    def test_openai_usage_in_the_last_chunk(self) -> None:
        """The last chunk brings the usage, an earlier one the finish reason."""
        choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": None}
        record = collected(
            openai_chunk(choices=[choice]),
            openai_chunk(choices=[{**choice, "finish_reason": "stop"}]),
            openai_chunk(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}),
        )
        assert TokenUsage(9, 2, 11) == record.usage
        assert ResponseFacts("c1", ("stop",)) == record.response
        assert ("gpt-4o", "openai") == (record.model, record.provider)

    def test_openai_several_choices(self) -> None:
        """Finish reasons of several choices keep the choices' order, whichever ends first."""
        choice = {"delta": {"content": "x"}, "finish_reason": None}
        record = collected(
            openai_chunk(choices=[{**choice, "index": 1, "finish_reason": "length"}]),
            openai_chunk(choices=[{**choice, "index": 0, "finish_reason": "stop"}]),
            openai_chunk(usage={"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}),
        )
        assert ("stop", "length") == record.response.finish_reasons

    def test_openai_responses_events(self) -> None:
        """The completed event of the responses API carries the whole response."""
        whole = {
            "id": "r1",
            "object": "response",
            "status": "completed",
            "model": "gpt-5",
            "usage": {"input_tokens": 3, "output_tokens": 4},
        }
        record = collected({"type": "response.output_text.delta", "delta": "x"}, {"type": "response.completed", "response": whole})
        assert TokenUsage(3, 4, 7) == record.usage
        assert "r1" == record.response.id

    def test_anthropic_start_and_delta(self) -> None:
        """message_start brings the input with its cache, message_delta the final output; nothing is added up."""
        record = collected(
            {
                "type": "message_start",
                "message": {
                    "id": "m1",
                    "model": "claude",
                    "usage": {"input_tokens": 10, "cache_read_input_tokens": 90, "output_tokens": 1},
                },
            },
            {"type": "content_block_delta", "delta": {"text": "x"}},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 25}},
        )
        assert TokenUsage(100, 25, 125, cache_read=90) == record.usage
        assert ("anthropic", "claude", ("end_turn",)) == (record.provider, record.model, record.response.finish_reasons)

    def test_gemini_is_cumulative(self) -> None:
        """Every Gemini chunk repeats the totals so far; the newest holds."""
        chunk = {"modelVersion": "gemini-2.5-pro", "candidates": [{"finishReason": "STOP"}]}
        first = {"promptTokenCount": 8, "candidatesTokenCount": 2, "totalTokenCount": 10}
        last = {"promptTokenCount": 8, "candidatesTokenCount": 6, "thoughtsTokenCount": 4, "totalTokenCount": 18}
        record = collected({**chunk, "usageMetadata": first}, {**chunk, "usageMetadata": last})
        assert TokenUsage(8, 10, 18, reasoning=4) == record.usage
        assert "gcp.gemini" == record.provider

    def test_bedrock_events(self) -> None:
        """The last event of ConverseStream brings the usage, with the cache beside; the one before it why the answer ended."""
        usage = {"inputTokens": 6, "outputTokens": 2, "totalTokens": 8, "cacheReadInputTokens": 3, "cacheWriteInputTokens": 1}
        record = collected(
            {"messageStart": {"role": "assistant"}},
            {"contentBlockDelta": {"delta": {"text": "x"}, "contentBlockIndex": 0}},
            {"messageStop": {"stopReason": "end_turn"}},
            {"metadata": {"usage": usage, "metrics": {"latencyMs": 3}}},
        )
        assert TokenUsage(10, 2, 12, cache_read=3, cache_write=1) == record.usage
        assert ("aws.bedrock", ("end_turn",)) == (record.provider, record.response.finish_reasons)

    def test_a_reason_that_is_an_enum_member(self) -> None:
        """google-genai's finish reasons are texts and enum members at once: the value counts."""

        class FinishReason(str, Enum):  # noqa: UP042  # as google-genai writes it, for which `str` gives another text than StrEnum
            STOP = "STOP"

        usage = {"promptTokenCount": 8, "candidatesTokenCount": 2}
        record = collected({"candidates": [{"finishReason": FinishReason.STOP}], "usageMetadata": usage})
        assert ("STOP",) == record.response.finish_reasons

    def test_no_usage(self) -> None:
        """A stream that tells no usage has no record, and strange chunks harm nobody."""
        usage = StreamUsage()
        for chunk in (None, "x", 3, {"type": "message_delta"}, openai_chunk()):
            usage.feed(chunk)
        assert usage.record() is None

    def test_items_of_an_applications_own(self) -> None:
        """Items that are no chunks are passed over by their type, and those that carry a usage are read, whatever holds it."""

        class Silent:
            def __init__(self) -> None:
                self.text = "x"

        class Slotted:
            __slots__ = ("usage",)

            def __init__(self) -> None:
                self.usage = {"input_tokens": 2, "output_tokens": 1}

        class Lazy:
            def __getattr__(self, name: str) -> object:
                if name == "usage":
                    return {"input_tokens": 4, "output_tokens": 2}
                raise AttributeError(name)

        assert TokenUsage(2, 1, 3) == collected(Silent(), "text", b"x", Slotted()).usage
        assert TokenUsage(4, 2, 6) == collected(Silent(), object(), Lazy()).usage
        later = SimpleNamespace(text="a")
        usage = StreamUsage()
        usage.feed(later)
        later.usage = {"input_tokens": 3, "output_tokens": 1}
        usage.feed(later)
        assert (record := usage.record()) is not None
        assert TokenUsage(3, 1, 4) == record.usage

    def test_dicts_shaped_as_openai_chunks(self) -> None:
        """Chunks after the first are read by fewer look-ups, and to the same end."""
        chunk = {"object": "chat.completion.chunk", "id": "c1", "model": "gpt-4o", "choices": [{"index": 0, "delta": {}}]}
        record = collected(
            chunk,
            chunk,
            {**chunk, "choices": [{"index": 0, "finish_reason": "stop"}]},
            {**chunk, "choices": [], "usage": {"prompt_tokens": 1}},
        )
        assert (1, ("stop",)) == (record.usage.input_tokens, record.response.finish_reasons)


class TestFinalResponse:
    def test_what_the_client_put_together(self) -> None:
        """Anthropic's and OpenAI's helpers keep it; one that raises, as they do before the first item, has none."""

        class Early:
            @property
            def current_message_snapshot(self) -> object:
                raise AssertionError

        message = {"type": "message"}
        assert message is final_response(SimpleNamespace(current_message_snapshot=message))
        assert message is final_response(SimpleNamespace(current_completion_snapshot=message))
        assert (None, None) == (final_response(Early()), final_response(object()))
