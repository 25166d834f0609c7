"""The fixture in the hands of a user: a real pytest run over their tests."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

AGENT = """
    import pytest
    import otel_runtime as rt

    @rt.tool
    def refund(order_id: int, amount: float) -> str:
        return "refunded"

    @rt.agent
    def support() -> str:
        return refund(order_id=1, amount=5.0)
"""
POLICY = """
version: 1
name: shop
default: deny
rules:
  - id: small
    tool: refund
    args: {amount: {lte: 100}}
    decision: allow
  - id: large
    tool: refund
    args: {amount: {gt: 100}}
    decision: require-approval
    approval: {approvers: [anyone], expires: 30m}
"""


def run(pytester: pytest.Pytester, tests: str, *arguments: str) -> pytest.RunResult:
    pytester.makepyfile(AGENT + tests)
    pytester.makefile(".yaml", shop=POLICY)
    # A process of its own: what the plugin sets up must not meet this one's runtime.
    return pytester.runpytest_subprocess(
        "-p", "otel_runtime.testing.plugin", "-p", "no:cacheprovider", "--strict-markers", "-W", "error", *arguments
    )


class TestFixture:
    def test_spans_as_a_tree(self, pytester: pytest.Pytester) -> None:
        """Without a policy calls are traced, and the tree is nested tuples of names."""
        result = run(
            pytester,
            """
    def test_it(otel_runtime_memory):
        assert support() == "refunded"
        assert otel_runtime_memory.tree() == (("invoke_agent support", ("execute_tool refund",)),)
        assert otel_runtime_memory.decisions() == ()
        assert "gen_ai.execute_tool.duration" in otel_runtime_memory.metrics()
            """,
        )
        result.assert_outcomes(passed=1)

    def test_decisions(self, pytester: pytest.Pytester) -> None:
        """A policy from a file of the project or as text decides, and what it decided is seen."""
        result = run(
            pytester,
            """
    @pytest.mark.otel_runtime(policy="shop.yaml")
    def test_file(otel_runtime_memory):
        assert refund(1, 5.0) == "refunded"
        with pytest.raises(rt.ApprovalPending):
            refund(1, 500.0)
        assert otel_runtime_memory.decisions() == (("refund", "allow", "small"), ("refund", "require-approval", "large"))

    @pytest.mark.otel_runtime(policy_text="version: 1\\nname: none\\ndefault: deny\\nrules: [{id: none, tool: refund, decision: deny, reason: never}]\\n")
    def test_text(otel_runtime_memory):
        with pytest.raises(rt.PolicyDenied):
            refund(1, 5.0)
        assert otel_runtime_memory.tree() == (("policy deny refund",),)
            """,
        )
        result.assert_outcomes(passed=2)

    def test_tests_do_not_see_each_other(self, pytester: pytest.Pytester) -> None:
        """Each has its own spans and its own state, and none is in force after it."""
        result = run(
            pytester,
            """
    @pytest.mark.otel_runtime(policy="shop.yaml")
    def test_one(otel_runtime_memory):
        refund(1, 5.0)
        assert len(otel_runtime_memory.spans()) == 1

    @pytest.mark.otel_runtime(policy="shop.yaml")
    def test_two(otel_runtime_memory):
        assert otel_runtime_memory.spans() == ()

    def test_three():
        assert refund(1, 5000.0) == "refunded"
            """,
        )
        result.assert_outcomes(passed=3)

    def test_settings_of_the_machine_stay_out(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        """Variables and a settings file around the tests change nothing, and stand where they were when a test looks at them."""
        machine = {
            "OTEL_SDK_DISABLED": "true",
            "OTEL_TRACES_SAMPLER": "always_off",
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9",
            "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1",
            "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "2",
            "OTEL_PROPAGATORS": "pigeon",
            "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "SPAN_ONLY",
            "OTEL_RUNTIME_POLICY": "/nowhere.yaml",
        }
        for name, value in machine.items():
            monkeypatch.setenv(name, value)
        pytester.makefile(".yaml", **{"otel-runtime": "policy: nowhere.yaml"})
        result = run(
            pytester,
            f"""
    import os

    @pytest.mark.otel_runtime(policy="shop.yaml")
    def test_it(otel_runtime_memory):
        refund(1, 5.0)
        assert otel_runtime_memory.tree() == (("execute_tool refund",),)
        assert otel_runtime_memory.decisions() == (("refund", "allow", "small"),)
        assert "gen_ai.execute_tool.duration" in otel_runtime_memory.metrics()
        assert "gen_ai.tool.call.arguments" not in otel_runtime_memory.spans()[0].attributes
        assert {machine!r}.items() <= os.environ.items()
            """,
        )
        result.assert_outcomes(passed=1)


class TestExpecting:
    def test_a_call_is_decided_so(self, pytester: pytest.Pytester) -> None:
        """Decision, rule and spans of one call, of any kind, with what it returned or raised."""
        result = run(
            pytester,
            """
    import asyncio

    @rt.tool
    async def arefund(order_id: int, amount: float) -> str:
        return "refunded"

    @pytest.mark.otel_runtime(policy="shop.yaml")
    def test_it(otel_runtime_memory):
        memory = otel_runtime_memory
        assert memory.assert_decided(lambda: support(), "allow", rule="small", span='''
            invoke_agent support
              execute_tool refund
        ''') == "refunded"
        refused = memory.assert_decided(lambda: refund(1, 500.0), "require-approval", rule="large")
        assert isinstance(refused, rt.ApprovalPending)
        memory.assert_decided(lambda: arefund(1, 5.0), "deny", span="policy deny arefund")
        memory.assert_decisions(("refund", "allow", "small"), ("refund", "require-approval", "large"), ("arefund", "deny", None))
            """,
        )
        result.assert_outcomes(passed=1)

    @pytest.mark.parametrize(
        ("check", "said"),
        [
            ("memory.assert_decided(lambda: refund(1, 5.0), 'deny')", ["*- refund: deny by small", "*+ refund: allow by small"]),
            (
                "memory.assert_decided(lambda: refund(1, 5.0), 'allow', rule='large')",
                ["*- refund: allow by large", "*+ refund: allow by small"],
            ),
            ("memory.assert_decided(lambda: 1, 'allow')", ["*+ (no tool): nothing by no rule"]),
            (
                "support(); memory.assert_tree('execute_tool refund')",
                ["*+ invoke_agent support", "*- execute_tool refund", "*+   execute_tool refund"],
            ),
            ("memory.assert_decided(support, 'allow', span='execute_tool refund')", ["*+ invoke_agent support"]),
            (
                "refund(1, 5.0); memory.assert_decisions(('refund', 'deny', None))",
                ["*- refund: deny by no rule", "*+ refund: allow by small"],
            ),
        ],
    )
    def test_a_failure_shows_what_differs(self, pytester: pytest.Pytester, check: str, said: list[str]) -> None:
        """Expected lines with -, what happened with +."""
        result = run(
            pytester,
            f"""
    @pytest.mark.otel_runtime(policy="shop.yaml")
    def test_it(otel_runtime_memory):
        memory = otel_runtime_memory
        {check}
            """,
        )
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(said)

    def test_in_an_asynchronous_test(self, pytester: pytest.Pytester) -> None:
        """A running loop cannot wait for a coroutine of its own: the error says what to do, which works, and leaves no coroutine behind."""
        result = run(
            pytester,
            """
    import asyncio

    @rt.tool
    async def arefund(order_id: int, amount: float) -> str:
        return "refunded"

    @pytest.mark.otel_runtime(policy_text="version: 1\\nname: t\\ndefault: deny\\nrules: [{id: a, tool: arefund, decision: allow}]")
    def test_it(otel_runtime_memory):
        async def test():
            with pytest.raises(rt.RuntimeStateError, match="await the call in the test, then use `assert_decisions`"):
                otel_runtime_memory.assert_decided(lambda: arefund(1, 5.0), "allow")
            assert await arefund(1, 5.0) == "refunded"
            otel_runtime_memory.assert_decisions(("arefund", "allow", "a"))

        asyncio.run(test())
            """,
        )
        result.assert_outcomes(passed=1)

    def test_functions_wrapped_by_configuration(self, pytester: pytest.Pytester) -> None:
        """`instrument` holds for one test, and is undone after it."""
        pytester.makepyfile(kiosk="def give(order): return order")
        result = run(
            pytester,
            """
    import kiosk

    @pytest.mark.otel_runtime(instrument=["kiosk:give"])
    def test_one(otel_runtime_memory):
        kiosk.give(1)
        otel_runtime_memory.assert_tree("execute_tool give")

    def test_two(otel_runtime_memory):
        kiosk.give(1)
        otel_runtime_memory.assert_tree("")
            """,
        )
        result.assert_outcomes(passed=2)

    def test_a_program_in_a_process_of_its_own(self, pytester: pytest.Pytester) -> None:
        """Its spans come over the wire."""
        result = run(
            pytester,
            """
    import os, subprocess, sys

    def test_it(otel_runtime_receiver):
        program = "import otel_runtime as rt\\nrt.configure(flush_timeout='60s')\\nwith rt.tool('ping'): pass"
        subprocess.run([sys.executable, "-c", program], env={**os.environ, **otel_runtime_receiver.environ}, check=True)
        assert otel_runtime_receiver.names() == ["execute_tool ping"]
            """,
        )
        result.assert_outcomes(passed=1)


class TestMistakes:
    def test_a_bad_policy_names_its_place(self, pytester: pytest.Pytester) -> None:
        """The test errs with the policy's own fault."""
        result = run(
            pytester,
            """
    @pytest.mark.otel_runtime(policy_text="version: 1\\nname: x\\ndefault: perhaps\\nrules: [{id: none, tool: refund, decision: deny}]\\n")
    def test_it(otel_runtime_memory):
        pass
            """,
        )
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*policy.yaml:3:*error*perhaps*"])

    def test_an_unknown_setting(self, pytester: pytest.Pytester) -> None:
        """It is refused, not ignored."""
        result = run(
            pytester,
            """
    @pytest.mark.otel_runtime(wait_at_mots=3)
    def test_it(otel_runtime_memory):
        pass
            """,
        )
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines(["*wait_at_mots*"])


class TestWeight:
    def test_the_plugin_loads_nothing_heavy(self, pytester: pytest.Pytester) -> None:
        """A run whose tests do not use it pays nothing for it."""
        pytester.makepyfile(
            """
    import sys

    def test_it():
        assert not {"pydantic", "opentelemetry.sdk", "yaml"} & set(sys.modules)
            """
        )
        pytester.runpytest_subprocess("-p", "otel_runtime.testing.plugin").assert_outcomes(passed=1)


class TestMistakesInTheMarker:
    @pytest.mark.parametrize(
        ("marker", "said"),
        [
            ("wait_at_mots=1", "*knows no `wait_at_mots`; did you mean `wait_at_most`?*"),
            ("policy_text=5", "*expected `policy_text` to be YAML text, got `int`*"),
        ],
    )
    def test_are_named(self, pytester: pytest.Pytester, marker: str, said: str) -> None:
        """An unknown name and a wrong type are refused in the words of the marker, not passed over."""
        result = run(pytester, f"\n    @pytest.mark.otel_runtime({marker})\n    def test_it(otel_runtime_memory): pass\n")
        result.assert_outcomes(errors=1)
        result.stdout.fnmatch_lines([said])
