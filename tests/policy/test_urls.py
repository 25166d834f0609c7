from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.truth import Tri
from otel_runtime.policy.urls import Url, parse_url
from otel_runtime.values.action import Action

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def asked(test: str, text: str) -> Tri:
    """The operator's own value, told by an allow and a deny."""
    verdicts = []
    for decision in ("allow", "deny"):
        rule = f"{{id: r, tool: get, args: {{url: {{url: {test}}}}}, decision: {decision}}}"
        other = "allow" if decision == "deny" else "deny"
        loaded = load_policy_text(f"version: 1\ndefault: {other}\ntools: {{get: {{args: {{url: str}}}}}}\nrules:\n  - {rule}\n")
        verdicts.append(loaded.engine.decide(Action("tool", "get", {"url": text}), None, NOW).decision.value)
    return {("allow", "deny"): True, ("deny", "allow"): False, ("deny", "deny"): None}[(verdicts[0], verdicts[1])]


API = "{scheme: https, host: api.good.example, port: 443}"


class TestParts:
    @pytest.mark.parametrize(
        "text",
        [
            "https://api.good.example/",
            "https://api.good.example",
            "HTTPS://API.Good.Example:443/v1?x=1",
            "https://api.good.example?x=1",
            "https://api.good.example/#frag",
            "https://api.good.example/a%20b?next=https://evil.example/&x=%2e%2e",
        ],
    )
    def test_true(self, text: str) -> None:
        """Scheme and host ignore case, the scheme's own port counts."""
        assert asked(API, text) is True

    @pytest.mark.parametrize(
        "text",
        [
            "http://api.good.example/",
            "https://evilapi.good.example/",
            "https://api.good.example.evil.com/",
            "https://api.good.example:8443/",
            "https://evil.com/#https://api.good.example",
            "https://good.example/",
            "https://127.0.0.1/",
            "https://[::1]/",
            "https://evil.com?https://api.good.example/",
            "https://xn--pi-6kc.good.example/",
        ],
    )
    def test_false(self, text: str) -> None:
        """Another scheme, host or port is plainly another."""
        assert asked(API, text) is False

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "api.good.example",
            "//api.good.example/",
            "https:api.good.example",
            "https:/api.good.example",
            "https:///api.good.example",
            "https://user@api.good.example/",
            "https://api.good.example@evil.com/",
            "https://evil.com\\@api.good.example/",
            "https://api.good.example\\.evil.com/",
            "https://api.good.example\n.evil.com/",
            " https://api.good.example/",
            "https://api.good.example /",
            "https://api.good.example%2eevil.com/",
            "https://api\u3002good\u3002example/",
            "https://api.good.example./",
            "https://api..good.example/",
            "https://api_x.good.example/",
            "https://api.good.example:/",
            "https://api.good.example:0443/",
            "https://api.good.example:99999/",
            "https://api.good.example:65536/",
            "https://256.1.1.1/",
            "https://[1::2::3]/",
            "https://api.good.example:443:443/",
            "https://2852039166/",
            "https://0xA9.0xFE.0xA9.0xFE/",
            "https://127.1/",
            "https://0/",
            "https://0177.0.0.1/",
            "https://1.2.3.4.5/",
            "https://[::ffff:127.0.0.1]/",
            "https://[fe80::1%25eth0]/",
            "https://[::1/",
            "https://[::1x/",
            "https://[::1:443/",
            "https://api.good.example/a b",
            "https://api.good.example/a\tb",
            "https://api.good.example/?a=<b>",
            "https://api.good.example/?a=\u00e9",
            f"https://{'a.' * 126}ab/",
            "https://api.good.example/" + "x" * 4096,
        ],
    )
    def test_unknown(self, text: str) -> None:
        """What two readers could read differently is unknown."""
        assert asked(API, text) is None

    def test_wildcard(self) -> None:
        """`*.` is one or more labels, never none."""
        hosts = ["a.good.example", "a.b.good.example", "good.example", "evilgood.example", "good.example.evil"]
        assert [True, True, False, False, False] == [asked("{host: '*.good.example'}", f"https://{host}/") for host in hosts]

    def test_unknown_port(self) -> None:
        """A scheme without a port of its own leaves the port unknown."""
        assert [None, True] == [asked("{port: 5432}", text) for text in ("postgres://db.example/", "postgres://db.example:5432/")]

    @pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443), ("ws", 80), ("wss", 443), ("ftp", 21)])
    def test_own_port(self, scheme: str, port: int) -> None:
        """A scheme's own port counts where none is written."""
        assert [True, False] == [asked(f"{{port: {one}}}", f"{scheme}://db.example/") for one in (port, port + 1)]

    def test_path(self) -> None:
        """A path is exact, or everything below a folder; whatever may be tidied is unknown."""
        paths = [
            "/v1/orders",
            "/v1/",
            "/v1",
            "/v2/x",
            "/v1/../admin",
            "/v1/%2e%2e/admin",
            "/v1/%61",
            "/v1//x",
            "/v1/..;/admin",
            "/v1/a%20b",
            "/v1/%zz",
        ]
        known = [asked("{path: '/v1/*'}", f"https://a.example{path}") for path in paths]
        assert [True, True, False, False, None, None, None, None, None, True, None] == known

    def test_addresses(self) -> None:
        """IP addresses are hosts in their plain spelling."""
        assert [True, True] == [asked("{host: ['127.0.0.1', '[::1]']}", text) for text in ("http://127.0.0.1:80/", "http://[0:0::1]/")]

    def test_longest_host(self) -> None:
        """A host may be as long as a name can be."""
        host = "a." * 126 + "b"
        assert asked(f"{{host: {host}}}", f"https://{host}/") is True


class TestOperand:
    @pytest.mark.parametrize(
        "test",
        [
            "{}",
            "https",
            "{host: '*'}",
            "{host: '*.com'}",
            "{host: 'a.*.com'}",
            "{host: 'https://a.com'}",
            "{host: 127.1}",
            "{host: a_b.com}",
            "{port: 0}",
            "{port: '443'}",
            "{port: true}",
            "{path: v1}",
            "{path: '/v*/x'}",
            "{scheme: HTTPS}",
            "{hosts: a.com}",
            "{host: []}",
        ],
    )
    def test_refused(self, test: str) -> None:
        """An operand that could never fit, or fits too much, is refused when the policy is loaded."""
        with pytest.raises(ConfigError):
            asked(test, "https://a.com/")

    def test_warned(self) -> None:
        """An allow that leaves host or scheme open is a warning."""
        text = "version: 1\ndefault: deny\nrules:\n  - {id: r, tool: get, args: {url: {url: {host: a.example}}}, decision: allow}\n"
        assert "P111" in {fault.code for fault in load_policy_text(text).warnings}

    def test_explained(self) -> None:
        """The condition is spelled as the file spells it."""
        from otel_runtime.policy.explain import explain

        text = "version: 1\ndefault: deny\nrules:\n  - {id: r, tool: get, args: {url: {url: {scheme: https, host: [a.example, b.example]}}}, decision: allow}\n"
        told = explain(Action("tool", "get", {"url": "http://x.example"}), load_policy_text(text).engine.policy, None, NOW)
        assert "args.url url {scheme: https, host: [a.example, b.example]}" == told.rules[0].conditions[0].label


PIECES = st.sampled_from(
    [
        "https",
        "://",
        "api.good.example",
        "evil.com",
        "@",
        ":",
        "443",
        "/",
        "\\",
        "#",
        "?",
        ".",
        "%2e",
        "[::1]",
        "\t",
        "\u3002",
        "0x7f",
        "//",
        "a:b",
    ]
)


class TestAnyText:
    @settings(max_examples=500, deadline=None)
    @given(st.lists(PIECES, max_size=8).map("".join))
    @example("https://evil.com#@api.good.example/")
    def test_agrees_with_another_reader(self, text: str) -> None:
        """Where ours knows a host, the standard library reads the same one."""
        known = parse_url(text)
        if known is not None:
            other = urlsplit(text)
            host = f"[{other.hostname}]" if ":" in (other.hostname or "") else other.hostname
            assert (known.scheme, known.host) == (other.scheme, host)
            assert other.port is None or other.port == known.port

    @settings(max_examples=500, deadline=None)
    @given(st.text(max_size=60))
    def test_never_raises(self, text: str) -> None:
        """No text raises."""
        assert parse_url(text) is None or isinstance(parse_url(text), Url)

    @settings(max_examples=300, deadline=None)
    @given(st.integers(0, 26), st.characters())
    def test_one_character_into_the_attack(self, at: int, char: str) -> None:
        """No single inserted character turns a foreign host into ours."""
        text = "https://evil.good.example.x"
        known = parse_url(text[:at] + char + text[at:])
        assert known is None or known.host != "api.good.example"
