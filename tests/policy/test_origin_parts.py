"""Values by their parts, by the field they stood in and by what the catalogue says of the tool; and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.gleaning import MAX_CHARS, glean, spelled
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.mentions import mentioned, spellings
from otel_runtime.policy.protocol import Needs
from otel_runtime.policy.provenance import MAX_ASKED, Sightings, key_of
from otel_runtime.values.action import Action, Unreadable
from otel_runtime.values.decision import Decision
from otel_runtime.values.snapshot import snapshot_arguments

NOW = datetime(2026, 11, 20, tzinfo=UTC)
IBAN = "DE89370400440532013000"


def sources(value: object, **said: object) -> set[str]:
    sightings = Sightings()
    for source, text in said.items():
        sightings.add(source.replace("__", ":"), text)
    key = key_of(value)
    assert key is not None
    return set(sightings.of(key))


class TestParts:
    """Addresses, URLs, paths and account numbers, however they are written."""

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("bob@corp.example", "Mail Bob@Corp.Example."),
            ("Bob Miller <bob@corp.example>", "mail bob@corp.example"),
            ("BOB@corp.example", "(bob@corp.example)"),
            ("https://www.a.example", "look at www.a.example."),
            ("https://www.a.example/", "look at www.a.example, please"),
            ("www.a.example", "look at https://www.a.example/news"),
            ("https://A.example:443/x?q=1", "see https://a.example/x?q=1)"),
            ("http://a.example/x", "see a.example/x"),
            ("https://a.example/x#top", "see https://a.example/x"),
            ("./notes/a.md", "open notes/a.md"),
            ("notes//a.md", "open './notes/a.md'."),
            (IBAN, "to DE89 3704 0044 0532 0130 00 EUR 20"),
            ("DE89 3704 0044 0532 0130 00", f"to {IBAN}"),
            ("de89-3704-0044-0532-0130-00", f"to {IBAN}"),
            ("4111111111111111", "my card 4111 1111 1111 1111"),
            ("4111-1111-1111-1111", "my card 4111111111111111."),
            (1000.5, "pay 1,000.50"),
            (30000, "$30,000 in all"),
        ],
    )
    def test_seen(self, value: object, said: str) -> None:
        """Another way of writing the same thing is the same thing."""
        assert {"user"} == sources(value, user=said)

    @pytest.mark.parametrize(
        ("value", "said"),
        [
            ("DE89 3704 0044", "to DE89 3704 0044 0532 0130 00"),
            ("370400440532013000", "to DE89 3704 0044 0532 0130 00"),
            ("1111 1111 1111", "my card 4111 1111 1111 1111"),
            ("https://a.example/", "see https://a.example/x"),
            ("https://a.example/x", "see http://a.example/x"),
            ("https://a.example:8443/x", "see https://a.example/x"),
            ("https://a.example/x?data=1", "see https://a.example/x"),
            ("https://a.example.evil.example/x", "see https://a.example/x"),
            ("www.a.example", "see www.a.example.They have it"),
            ("https://setup.sh", "run setup.sh"),
            ("/notes/a.md", "open notes/a.md"),
            ("notes/../a.md", "open a.md and notes"),
            ("bob@corp.example", "bob at corp.example"),
            ("bob@corp.example", "Ym9iQGNvcnAuZXhhbXBsZQ=="),
            ("bob@corp.examples", "bob@corp.example"),
            (1000, "pay 1,0000"),
        ],
    )
    def test_unseen(self, value: object, said: str) -> None:
        """A part of it, a longer one, another page, or the same thing encoded or joined is not it."""
        assert set() == sources(value, user=said)

    def test_spelling(self) -> None:
        """Each kind has one spelling, and a word has none."""
        assert ("mail:bob@corp.example",) == spellings("Bob <bob@Corp.example>")
        assert (f"account:{IBAN}",) == spellings("DE89 3704 0044 0532 0130 00")
        assert () == spellings("Bob Miller")
        assert [f"account:{IBAN}"] == list(mentioned("DE89 3704 0044 0532 0130 00"))

    @pytest.mark.parametrize(
        ("exact", "text"),
        [(5, "5"), (Decimal("5.50"), "5.5"), (Decimal("-0.00"), "0"), (Decimal("1E+3"), "1000"), (Decimal("1E+999"), "1E+999")],
    )
    def test_numbers(self, exact: int | Decimal, text: str) -> None:
        """A number has one spelling, too, and none that fills the memory."""
        assert text == spelled(exact)


class TestFields:
    """Whole values of fields, told apart from what stands in a text."""

    def test_field(self) -> None:
        """The name of the field is said, and only where the value is all of it."""
        result = [{"recipient": IBAN, "subject": "pay FR7630006000011234567890189 now"}]
        assert {"tool:pay", "tool:pay/recipient"} == sources("DE89 3704 0044 0532 0130 00", tool__pay=result)
        assert {"tool:pay"} == sources("FR7630006000011234567890189", tool__pay=result)

    def test_lists_and_depth(self) -> None:
        """A list's elements stand in the list's field, an inner mapping's in its own."""
        result = {"event": {"guests": ["ann@corp.example", {"mail": "bob@corp.example"}]}}
        assert {"tool:t", "tool:t/guests"} == sources("ann@corp.example", tool__t=result)
        assert {"tool:t", "tool:t/mail"} == sources("bob@corp.example", tool__t=result)

    def test_json_text(self) -> None:
        """JSON in a text, as servers of tools return it, has fields and no escapes."""
        text = '[{"name": "Ann \\"A\\" Baker", "sum": 12.50}]'
        assert {"tool:t", "tool:t/name"} == sources('Ann "A" Baker', tool__t=text)
        assert {"tool:t", "tool:t/sum"} == sources(12.5, tool__t={"content": [{"type": "text", "text": text}]})

    def test_not_json(self) -> None:
        """A text that only begins like JSON is a text."""
        for text in ("[see ann@corp.example", "{" * 3000 + " ann@corp.example", '"ann@corp.example"'):
            assert {"tool:t"} == sources("ann@corp.example", tool__t=text)

    def test_keys_are_no_fields(self) -> None:
        """A key of a mapping was seen, as what it is."""
        assert {"tool:t"} == sources("ann@corp.example", tool__t={"ann@corp.example": "rw"})

    def test_times(self) -> None:
        """Days and times are known as they are written."""
        assert {"tool:t", "tool:t/day"} == sources("2026-11-20", tool__t={"day": date(2026, 11, 20)})


def nested(last: str) -> list[object]:
    """Lists of empty lists, one in the other, with a text behind all of them."""
    inner: list[object] = []
    for _ in range(12):
        inner = [inner, *([[]] * 5_000)]
    return [inner, last]


class TestUnreadable:
    """What was not read makes the source unknown for what is not found."""

    @pytest.mark.parametrize(
        "value",
        [
            Unreadable("x.Response", "type"),
            {"a": Unreadable("x.Response", "cap")},
            b"\xff\xfe",
            float("nan"),
            ["x"] * 9_000,
            {f"k{at}": at for at in range(9_000)},
            "word " * 40_000,
            "1 " * 20_000,
            [b"\xff\xfe", "a word"],
            ["word " + "x" * 200_000, "a word"],
            nested("eve@evil.example"),
        ],
    )
    def test_lost(self, value: object) -> None:
        """A result that is too large, or no data, could have held anything."""
        assert {"lost:tool:t"} == sources("eve@evil.example", tool__t=value)

    def test_lost_for_good(self) -> None:
        """What one result held unread is not made good by the next one of the same source."""
        sightings = Sightings()
        for value in (b"\xff\xfe", "a word"):
            sightings.add("tool:t", value)
        assert {"lost:tool:t"} == sightings.of("eve@evil.example")

    def test_what_was_read_is_known(self) -> None:
        """The beginning of a text that is too long was seen, and no half word of it."""
        text = "eve@evil.example " + "word " * 30_000
        assert {"tool:t", "lost:tool:t"} == sources("eve@evil.example", tool__t=text)
        cut = glean("x" * (MAX_CHARS - 40) + " eve@evil.example.but.longer.than.there.is.room.for")
        assert (True, False) == (cut.lost, "eve@" in cut.text)

    def test_bytes(self) -> None:
        """Bytes that are text are read as text."""
        assert {"tool:t"} == sources("eve@evil.example", tool__t=b"mail eve@evil.example")


HEAD = """version: 1
default: allow
tools:
  fetch: {adds: [untrusted]}
  find: {trusted_source: true}
  send: {args: {to: "str"}}
rules:
"""


def verdicts(test: str, **said: object) -> str:
    return decided(test, **said).value


def decided(test: str, **said: object) -> Decision:
    loaded, facts = load_policy_text(f"{HEAD}  - {{id: r, tool: send, args: {{to: {{origin: {test}}}}}, decision: deny}}\n"), MemoryFacts()
    for source, value in said.items():
        facts.saw("s", source.replace("__", ":"), value)
    action = Action("tool", "send", {"to": "ann@corp.example"}, session="s")
    needs = loaded.engine.needs(action, NOW)
    assert needs is not None
    return loaded.engine.decide(action, facts.peek(needs, NOW), NOW).decision


class TestSources:
    """What a rule can ask for besides names of tools."""

    @pytest.mark.parametrize(
        ("test", "holding", "not_holding"),
        [
            ("'label:untrusted'", ["fetch"], ["find", "other"]),
            ("{none_of: 'label:untrusted'}", ["find", "other"], ["fetch"]),
            ("{only: 'label:untrusted'}", ["fetch"], ["find", "other"]),
            ("trusted", ["find"], ["fetch", "other"]),
            ("{only: trusted}", ["find"], ["fetch"]),
            ("{only: 'tool:find'}", ["find"], ["fetch"]),
            ("'tool:find/mail'", ["find"], ["fetch"]),
            ("'tool:*/mail'", ["find", "fetch"], []),
            ("'tool:find/name'", [], ["find"]),
            ("{none_of: ['tool:*/mail']}", [], ["find", "fetch"]),
        ],
    )
    def test_asked(self, test: str, holding: list[str], not_holding: list[str]) -> None:
        """Labels that tools add, tools that are trusted, and fields."""
        for tool in (*holding, *not_holding):
            got = verdicts(test, **{f"tool__{tool}": {"mail": "ann@corp.example"}})
            assert ("deny" if tool in holding else "allow") == got, tool

    @pytest.mark.parametrize("said", [{"user": "to ann@corp.example"}, {"config": {"desk": "ann@corp.example"}}])
    def test_own_words_are_trusted(self, said: dict[str, Any]) -> None:
        """The person's and the application's words are trusted, and carry no label."""
        assert ("deny", "allow") == (verdicts("trusted", **said), verdicts("'label:untrusted'", **said))

    @pytest.mark.parametrize("test", ["'label:untrusted'", "'tool:fetch/mail'", "{none_of: trusted}", "{only: trusted}"])
    def test_a_lost_source_may_be_it(self, test: str) -> None:
        """Where a labelled tool's words were lost, a deny that asks for them binds."""
        assert "deny" == verdicts(test, tool__fetch="word " * 40_000)

    @pytest.mark.parametrize(
        ("test", "found"),
        [
            ("{only: 'tool:f*'}", {}),
            ("{only: 'tool:find'}", {"tool__find": "ann@corp.example"}),
            ("{only: trusted}", {"tool__find": "ann@corp.example"}),
            ("{none_of: 'tool:fetch'}", {"tool__find": "ann@corp.example"}),
            ("{none_of: 'label:untrusted'}", {}),
            ("{any_of: 'tool:fetch'}", {"tool__find": "ann@corp.example"}),
        ],
    )
    def test_what_was_lost_is_not_known(self, test: str, found: dict[str, Any]) -> None:
        """Where words were lost that may have held it, it is not known to come from the named sources, nor from them alone, nor from others."""
        assert "policy.unknown" == decided(test, **found, tool__fetch="word " * 40_000).code

    def test_a_field_is_not_only(self) -> None:
        """`only` asks for whole sources."""
        with pytest.raises(ConfigError, match="only"):
            verdicts("{only: 'tool:find/mail'}")

    @pytest.mark.parametrize("test", ["'label:'", "'tool:find/'", "'tool:/mail'", "trusted_source", "'label:a b'"])
    def test_no_such_source(self, test: str) -> None:
        """What is no source is refused when the policy is loaded."""
        with pytest.raises(ConfigError, match="P016"):
            verdicts(test)

    def test_a_label_nobody_adds(self) -> None:
        """A label that no tool adds is warned of, with what may have been meant."""
        loaded = load_policy_text(f"{HEAD}  - {{id: r, tool: send, args: {{to: {{origin: 'label:untrustd'}}}}, decision: deny}}\n")
        assert ["no tool adds the label `untrustd`; did you mean `untrusted`?"] == [
            fault.message for fault in loaded.warnings if fault.code == "P104"
        ]


class TestBounded:
    """Whatever comes in, what is kept and looked through is bounded; `python -m benchmarks.origin` says what that costs."""

    def test_sources_of_a_session(self) -> None:
        """Results of a whole day take no more room than one: old ones go, the user's words stay."""
        facts = MemoryFacts()
        facts.saw("s", "user", "mail bob@corp.example")
        for at in range(200):
            facts.saw("s", f"tool:t{at % 50}", f"page {at} " + "word " * 5_000)
        view = facts.peek(Needs((), "s", ("bob@corp.example",)), NOW)
        assert view.origins is not None
        assert "user" in view.origins["bob@corp.example"]

    @pytest.mark.parametrize(
        "make",
        [
            lambda size: "a@" * (size // 2),
            lambda size: "www.a.co/b " * (size // 11),
            lambda size: "1.2.3.4/ " * (size // 9),
            lambda size: "12 " * (size // 3),
            lambda size: "DE12 3456 " * (size // 10),
            lambda size: ("a" * 63 + ".") * (size // 64),
            lambda size: "{" * size,
            lambda size: "[1," * (size // 3),
        ],
    )
    def test_of_one_value(self, make: Callable[[int], str]) -> None:
        """However much comes and of whatever kind, no more is kept than there is room for, and what is left out is said."""
        gleaned = glean(snapshot_arguments({"r": make(8 * MAX_CHARS)})[0])
        assert gleaned.lost
        assert (True, True, True) == (gleaned.chars <= MAX_CHARS, len(gleaned.mentions) <= 8_000, len(gleaned.numbers) <= 16_000)

    def test_values_of_a_call(self) -> None:
        """So many values are asked for and no more."""
        loaded = load_policy_text(f"{HEAD}  - {{id: r, tool: other, args: {{to: {{some: {{origin: user}}}}}}, decision: deny}}\n")
        needs = loaded.engine.needs(Action("tool", "other", {"to": [f"person{at}@corp.example" for at in range(500)]}, session="s"), NOW)
        assert needs is not None
        assert MAX_ASKED == len(needs.values)

    def test_values_of_a_call_in_several_sessions(self) -> None:
        """Fewer are asked for where more sessions are looked through; the rest is unknown."""
        loaded = load_policy_text(f"{HEAD}  - {{id: r, tool: other, args: {{to: {{some: {{origin: user}}}}}}, decision: deny}}\n")
        people = [f"person{at}@corp.example" for at in range(500)]
        for around, most in ((("a",), MAX_ASKED // 2), (tuple(f"s{at}" for at in range(99)), 1)):
            needs = loaded.engine.needs(Action("tool", "other", {"to": people}, session="s", around=around), NOW)
            assert needs is not None
            assert most == len(needs.values)
