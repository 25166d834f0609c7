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
        """A sampler, an exporter and a settings file around the tests change nothing."""
        monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
        pytester.makefile(".yaml", **{"otel-runtime": "policy: nowhere.yaml"})
        result = run(
            pytester,
            """
    def test_it(otel_runtime_memory):
        refund(1, 5.0)
        assert otel_runtime_memory.tree() == (("execute_tool refund",),)
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
