"""`otel-runtime policy init`: a policy that can be used at once, asks about everything, and allows nothing by its name."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest
import yaml

from otel_runtime.cli.main import main
from otel_runtime.policy.facts_memory import MemoryFacts
from otel_runtime.policy.init_file import is_reading, starter
from otel_runtime.policy.loading import LoadedPolicy, load_policy_text
from otel_runtime.policy.schema import policy_schema
from otel_runtime.values.action import Action, Parameter, ToolSignature

TOOLS = {
    "get_order": ToolSignature((Parameter("order_id", "int"),), description="Look up an order.\n\nMore."),
    "crm.listCustomers": ToolSignature(()),
    "mcp:files:read_file": ToolSignature((Parameter("path", "str"),)),
    "fetch_page": ToolSignature((Parameter("url", "str"), Parameter("depth", "int", required=False))),
    "refund": ToolSignature((Parameter("order_id", "int"), Parameter("amount", "number"), Parameter("reason", "str"))),
    "send_email": ToolSignature((Parameter("to", "list[str]"), Parameter("body", "str", required=False))),
    "delete_account": ToolSignature((Parameter("id", "str|int"),)),
    "get_and_delete": ToolSignature((Parameter("id", "str"),)),
    "anything": ToolSignature((Parameter("flag", "bool"), Parameter("options", "dict"), Parameter("other", "any")), open=True),
    "no": ToolSignature((Parameter("yes", "list[list[int]]"),)),
}


def decisions(loaded: LoadedPolicy) -> set[str]:
    return {rule.verdict for rule in loaded.engine.policy.rules}


def uncommented(text: str) -> str:
    """With every proposal taken, and without the cases that expect a question."""
    shown = re.sub(r"^  # (- |  \w+:)", lambda found: f"  {found.group(1)}", text, flags=re.MULTILINE)
    shown = re.sub(r"^# (tools:|  \S+: \{adds)", lambda found: found.group(1), shown, flags=re.MULTILINE)
    return shown.partition("\ncases:")[0] + "\n"


class TestStarter:
    def test_can_be_used_at_once(self) -> None:
        """It has no fault, no doubt, and every rule is seen both to apply and not to, with the tools' signatures and without."""
        text = starter("shop.tools", TOOLS)
        for known in ({}, TOOLS):
            loaded = load_policy_text(text, known_tools=known)
            assert () == loaded.warnings
            assert all(cover.whole for cover in loaded.coverage)
            assert loaded.cases == len(TOOLS) + 2

    def test_needs_no_session(self) -> None:
        """A program that opens no session is asked like any other, and not refused because nobody knows its pace."""
        engine = load_policy_text(starter("shop.tools", TOOLS)).engine
        action = Action("tool", "get_order", {"order_id": 1})
        needs = engine.needs(action, datetime.now(UTC))
        assert needs is not None
        facts = MemoryFacts().peek(needs, datetime.now(UTC))
        assert "require-approval" == engine.decide(action, facts, datetime.now(UTC)).decision.value

    def test_allows_nothing(self) -> None:
        """Nothing is allowed, whatever a tool is called: each one asks, and a case says so."""
        loaded = load_policy_text(starter("shop.tools", TOOLS))
        assert "allow" not in decisions(loaded)
        assert "default: require-approval" in starter("shop.tools", TOOLS)

    def test_proposals(self) -> None:
        """What looks like reading is proposed in a comment with the reason; what else its name says is not overheard."""
        text = starter("shop.tools", TOOLS)
        assert "  # - id: read.get_order\n  #   tool: get_order\n  #   decision: allow\n" in text
        assert "Its name begins with `get`, as reading does." in text
        assert "# - id: read.get_and_delete" not in text
        assert "  # - id: never.delete_account" in text
        assert "  # - id: together.refund" in text
        assert "#   fetch_page: {adds: [untrusted]}" in text

    def test_proposals_can_be_taken(self) -> None:
        """With every comment mark taken away it can still be used, and then allows what was proposed."""
        loaded = load_policy_text(uncommented(starter("shop.tools", TOOLS)), known_tools=TOOLS)
        assert [] == [fault.code for fault in loaded.warnings if fault.code != "P102"]
        assert {"allow", "deny", "require-approval", "retryable-failure"} == decisions(loaded)

    def test_is_valid_for_editors(self) -> None:
        """The schema that its first line names accepts it."""
        text = starter("shop.tools", TOOLS)
        assert text.startswith("# yaml-language-server: $schema=")
        assert jsonschema.Draft7Validator(policy_schema()).is_valid(yaml.safe_load(text))

    def test_descriptions_stay_comments(self) -> None:
        """A docstring cannot break out of its comment."""
        evil = {"look": ToolSignature((), description="first\x0bline\u2028rules: []")}
        assert () == load_policy_text(starter("m", evil)).warnings

    @pytest.mark.parametrize(
        ("name", "reading"),
        [
            ("get_order", True),
            ("listOrders", True),
            ("crm.find_customer", True),
            ("mcp:files:read_file", True),
            ("search", True),
            ("forget_order", False),
            ("getaway", False),
            ("send_list", False),
            ("get_and_delete", False),
            ("", False),
        ],
    )
    def test_reading(self, name: str, reading: bool) -> None:
        """Only the first word of a tool's own name speaks for reading, and a word of destruction speaks against it."""
        assert reading is is_reading(name)

    def test_no_tools(self) -> None:
        """Without tools there is nothing to begin."""
        with pytest.raises(ValueError, match="at least one tool"):
            starter("m", {})


MODULE = '''import otel_runtime as rt
print("noise on standard output")

@rt.tool
def get_order(order_id: int) -> str:
    """Look up an order."""
    return "order"

@rt.tool(name="pay")
def pay_somebody(amount: float, to: str = "bob") -> None: ...

def helper() -> None: ...
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A module of its own name for each test: Python imports a name once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    name = f"init_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    return name


class TestCommand:
    def test_prints(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        """The policy goes to standard output alone; what is imported and what it prints goes to standard error."""
        assert 0 == main(["policy", "init", module])
        out, err = capsys.readouterr()
        assert out.startswith("# yaml-language-server")
        assert "noise" not in out
        assert [f"imports {module} from ", "noise on standard output", "2 tools: get_order, pay"] == [
            line[: len(f"imports {module} from ")] if line.startswith("imports") else line for line in err.splitlines()
        ]

    def test_passes_check_and_test(self, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """What was written passes both commands at once, as strictly as they can be."""
        assert 0 == main(["policy", "init", module, "--out", "policy/begun.yaml"])
        assert (tmp_path / "policy" / "schema.json").is_file()
        assert 0 == main(["policy", "check", "policy/", "--strict", "--app", module])
        assert 0 == main(["policy", "test", "policy/", "--require-coverage", "--app", module])
        assert 2 == main(["policy", "init", module, "--out", "policy/begun.yaml"])
        assert "--force" in capsys.readouterr().err
        assert 0 == main(["policy", "init", module, "--out", "policy/begun.yaml", "--force"])

    def test_writes_over_no_other_schema(self, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A `schema.json` of something else stays as it is, and the policy does not take the place of its own schema."""
        (tmp_path / "schema.json").write_text('{"title": "orders"}')
        for words in (["init", module, "--out", "begun.yaml"], ["pack", "copy", "coding-agent", "."]):
            assert 2 == main(["policy", *words])
            assert "schema.json: error[P001]: a file of this name is there already" in capsys.readouterr().err
        assert {"schema.json"} == {one.name for one in tmp_path.iterdir() if one.suffix in {".json", ".yaml"}}
        assert '{"title": "orders"}' == (tmp_path / "schema.json").read_text()
        assert 2 == main(["policy", "init", module, "--out", "other/schema.json"])
        assert not (tmp_path / "other").exists()

    def test_names_no_rule_can_say(self, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A tool whose name is outside the grammar is left out, said so, and the rest can be used as it stands."""
        (tmp_path / f"{module}.py").write_text(f"{MODULE}\n@rt.tool(name='get weather')\ndef weather(city: str) -> None: ...\n")
        assert 0 == main(["policy", "init", module, "--out", "begun.yaml"])
        assert "left out: `get weather` is no name that a rule could say" in capsys.readouterr().err
        assert 0 == main(["policy", "test", "begun.yaml", "--require-coverage", "--app", module])

    def test_json(self, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        """As data: what was imported, the tools, which are proposed, and the text."""
        assert 0 == main(["policy", "init", module, "--json"])
        found = json.loads(capsys.readouterr().out)
        assert (["get_order", "pay"], ["get_order"]) == (found["tools"], found["proposed"])
        assert found["imported"].endswith(f"{module}.py")
        assert () == load_policy_text(found["policy"]).warnings

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("raise SystemExit('bye')", "SystemExit: bye"),
            ("1/0", "ZeroDivisionError"),
            ("x = 1", "decorates no tool"),
            ("def f(:", "SyntaxError"),
        ],
    )
    def test_modules_that_do_not(self, text: str, said: str, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A module that cannot be imported, leaves, or decorates nothing is one message and exit code 2."""
        (tmp_path / f"{module}.py").write_text(text)
        assert 2 == main(["policy", "init", module])
        assert said in capsys.readouterr().err

    def test_a_package_that_cannot_be_imported(self, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """The packages that a module is in are imported first; what fails in them is told alike."""
        (tmp_path / f"{module}_package").mkdir()
        (tmp_path / f"{module}_package" / "__init__.py").write_text("1/0")
        assert 2 == main(["policy", "init", f"{module}_package.tools"])
        assert "ZeroDivisionError" in capsys.readouterr().err

    @pytest.mark.parametrize("name", ["no_such_module_here", "no_such.module", "otel_runtime."])
    def test_no_module(self, name: str, module: str, capsys: pytest.CaptureFixture[str]) -> None:
        """A module that is not there is said."""
        assert 2 == main(["policy", "init", name])
        assert name.partition(".")[0] in capsys.readouterr().err

    def test_nothing_leaves(self, module: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """While the module is imported the SDK is disabled, and afterwards the environment is as before."""
        (tmp_path / f"{module}.py").write_text(f"import os\nprint('disabled', os.environ['OTEL_SDK_DISABLED'])\n{MODULE}")
        assert 0 == main(["policy", "init", module])
        assert "disabled true" in capsys.readouterr().err
        import os

        assert "OTEL_SDK_DISABLED" not in os.environ
