"""Cases of a pack in a program whose tools are written differently: they are passed over, and that is said; the file's own word is kept."""

from __future__ import annotations

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.values.action import Parameter, ToolSignature

PACK = """version: 1
default: deny
rules:
  - id: small
    tool: [pay, refund]
    args: {amount: {lte: 100}}
    decision: allow
    match: [{tool: pay, args: {amount: 5}}]
    no_match: [{tool: pay, args: {amount: 500}}]
cases:
  - {call: {tool: pay, args: {amount: 5}}, expect: allow}
"""
OTHER = {"pay": ToolSignature((Parameter("amount", "number"), Parameter("account", "any")))}


class TestUntried:
    """Cases that call a tool of the program in another way than it is written there."""

    def test_said_and_passed_over(self) -> None:
        """The policy is loaded, and a warning names each case and the argument."""
        warnings = [fault for fault in load_policy_text(PACK, known_tools=OTHER).warnings if fault.code == "P115"]
        assert [(8, "warning"), (11, "warning")] == [(fault.line, fault.severity) for fault in warnings]
        assert all("argument `account` is missing" in fault.message for fault in warnings)

    def test_one_that_fits_is_tried(self) -> None:
        """A case that fits the program's tool must hold there."""
        fitting = {"pay": ToolSignature((Parameter("amount", "number"),))}
        with pytest.raises(ConfigError, match="P020"):
            load_policy_text(PACK.replace("lte: 100", "lte: 4"), known_tools=fitting)

    def test_the_files_own_signature_is_kept(self) -> None:
        """Arguments that the file itself declares otherwise are a mistake in the file, whatever the program says."""
        declared = PACK.replace("rules:", "tools: {pay: {args: {amount: number, account: str}}}\nrules:", 1)
        with pytest.raises(ConfigError, match="argument `account` is missing"):
            load_policy_text(declared, known_tools=OTHER)
