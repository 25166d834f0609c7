"""Cases say more than the decision: by which rule, who is asked, when it may be tried again, and what each limit stands at."""

from __future__ import annotations

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import load_policy_text

POLICY = """version: 1
default: require-approval
approval: {approvers: [acting-user], expires: 30min}
rules:
  - {id: small, tool: refund, args: {amount: {lte: 100}}, decision: allow}
  - id: large
    tool: refund
    args: {amount: {gt: 100}}
    decision: require-approval
    approval: {approvers: ["role:finance"], quorum: 2, expires: 4h, use_within: 1h, edit: [amount, note]}
  - id: odd
    tool: refund
    args: {note: {eq: odd}}
    decision: require-approval
    approval: {approvers: ["user:ann", "role:finance"], expires: 1h, edit: [note]}
  - {id: pace, tool: refund, over: {calls: 3, by: session, per: 1h}, decision: retryable-failure, retry: {after: 10s, max_attempts: 4}}
  - {id: day, tool: refund, over: {calls: 9, by: user, per: day, tz: Europe/Berlin}, decision: deny}
"""
LARGE = "call: {tool: refund, args: {amount: 500}}, expect: require-approval"
ODD = "call: {tool: refund, args: {amount: 500, note: odd}}, expect: require-approval"
SMALL = "call: {tool: refund, args: {amount: 5}}"


def faults(case: str, policy: str = POLICY) -> list[tuple[str, str]]:
    """The texts that the faults of a case point at, with the messages."""
    try:
        load_policy_text(f"{policy}cases:\n  - {{{case}}}\n")
    except ConfigError as error:
        return [(fault.text[fault.column - 1 :], f"{fault.code} {fault.message}") for fault in error.faults]
    return []


class TestExpected:
    """What a case expects besides the decision."""

    @pytest.mark.parametrize(
        "case",
        [
            f"{SMALL}, expect: allow, rule: small",
            f"{LARGE}, rule: large",
            f'{LARGE}, approval: {{approvers: ["role:finance"], quorum: 2, expires: 4h, use_within: 60min, edit: [note, amount]}}',
            f"{LARGE}, approval: {{quorum: 2}}",
            f'{ODD}, approval: {{approvers: ["role:finance", "user:ann"], quorum: 2, expires: 1h, use_within: 1h, edit: [note]}}',
            "call: {tool: other}, expect: require-approval, approval: {approvers: [acting-user], expires: 30min, edit: []}",
            f"{SMALL}, used: {{calls/session/1h: 3}}, expect: retryable-failure, rule: pace, retry: {{after: 10s, max_attempts: 4, class: rate}}",
        ],
    )
    @pytest.mark.parametrize("mode", ["enforce", "shadow"])
    def test_met(self, case: str, mode: str) -> None:
        """What is so passes, and also in a file that only records; what is left out is not looked at."""
        assert faults(case, f"mode: {mode}\n{POLICY}") == []

    @pytest.mark.parametrize(
        ("case", "place", "message"),
        [
            (f"{SMALL}, expect: allow, rule: large", "large", "expected `allow` by rule `large`, got it by rule `small`"),
            ("call: {tool: other}, expect: require-approval, rule: odd", "odd", "got it by policy.default"),
            (
                f'{LARGE}, approval: {{approvers: ["role:finances"]}}',
                '["role:f',
                "expected `approvers` `role:finances`, got `role:finance`",
            ),
            (f'{ODD}, approval: {{approvers: ["role:finance"]}}', '["role:f', "got `role:finance`, `user:ann`"),
            (f"{LARGE}, approval: {{quorum: 1}}", "1}", "expected `quorum` `1`, got `2`"),
            (f"{LARGE}, approval: {{expires: 5h}}", "5h}", "expected `expires` `18000s`, got `14400s`"),
            (f"{ODD}, approval: {{expires: 4h}}", "4h}", "got `3600s`"),
            (f"{LARGE}, approval: {{use_within: 2h}}", "2h}", "expected `use_within` `7200s`, got `3600s`"),
            ("call: {tool: other}, expect: require-approval, approval: {use_within: 2h}", "2h}", "got nothing"),
            (f"{LARGE}, approval: {{edit: [amount]}}", "[amount]", "expected `edit` `amount`, got `amount`, `note`"),
            (f"{SMALL}, used: 3, expect: retryable-failure, retry: {{after: 9s}}", "9s}", "expected `after` `9s`, got `10s`"),
            (f"{SMALL}, used: 3, expect: retryable-failure, retry: {{max_attempts: 3}}", "3}", "expected `max_attempts` `3`, got `4`"),
            (f"{SMALL}, used: 3, expect: retryable-failure, retry: {{class: dependency}}", "dependency}", "expected `class`"),
            (f"{SMALL}, expect: allow, approval: {{quorum: 1}}", "{quorum", "belongs to calls that are decided `require-approval`"),
            (f"{LARGE}, retry: {{after: 1s}}", "{after", "belongs to calls that are decided `retryable-failure`"),
        ],
    )
    def test_missed(self, case: str, place: str, message: str) -> None:
        """What is not so refuses the file, at its place."""
        assert [(True, True)] == [(text.startswith(place), message in said and said.startswith("P020")) for text, said in faults(case)]


class TestUsed:
    """What the limits stand at in a case."""

    @pytest.mark.parametrize(
        "case",
        [
            f"{SMALL}, used: 3, expect: retryable-failure",
            f"{SMALL}, used: {{calls/session/1h: 3}}, expect: retryable-failure",
            f"{SMALL}, used: {{calls/session/60min: 3, calls/user/day: 8}}, expect: retryable-failure",
            f"{SMALL}, used: {{calls/session/1h: 2, calls/user/day: 9}}, expect: deny",
            f"{SMALL}, used: {{calls/session/1h: 0, every: 9}}, expect: deny, rule: day",
            f"{SMALL}, used: {{calls/user/day: 8}}, expect: allow",
            f"{SMALL}, used: {{}}, expect: allow",
        ],
    )
    def test_each(self, case: str) -> None:
        """All limits stand at one figure, or each at its own; the others at `every`, or at nothing."""
        assert faults(case) == []

    @pytest.mark.parametrize(
        ("used", "place", "message"),
        [
            ("{calls/session/2h: 3}", "calls/session/2h", "P017 no rule of this policy has the limit `calls/session/2h`"),
            ("{calls/user/1h: 3}", "calls/user/1h", "P017 no rule"),
            ("{attempts/session/1h: 3}", "attempts/session", "P017 no rule"),
            ("{coins/session/1h: 3}", "coins/session", "P016 expected `every`"),
            ("{calls/user/month: 3}", "calls/user/month", "P017 no rule"),
            ("{calls/somebody/1h: 3}", "calls/somebody/1h", "P016 expected `every`, or a limit such as `calls/session/1h`"),
            ("{calls/session/often: 3}", "calls/session/often", "P016 expected a duration"),
            ("{calls/session/1h: -3}", "-3", "P016 expected an amount"),
            ("many", "many", "P016 expected an amount"),
        ],
    )
    def test_refused(self, used: str, place: str, message: str) -> None:
        """A limit that no rule has, or none at all, is a slip of the pen and refuses the file at its place."""
        found = faults(f"{SMALL}, used: {used}, expect: retryable-failure")
        assert found
        text, said = found[0]
        assert text.startswith(place)
        assert message in said
