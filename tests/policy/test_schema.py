"""The JSON Schema that editors check policies by: the one in the repository, a sound draft 07, and no stricter than the loader."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml

from otel_runtime.cli.main import main
from otel_runtime.policy.loading import load_policy
from otel_runtime.policy.schema import DRAFT, policy_schema, schema_text

ROOT = Path(__file__).parents[2]
SHIPPED = sorted((ROOT / "policy").glob("*.yaml"))
GOOD = sorted((ROOT / "tests" / "policy" / "cases").glob("*.yaml"))
BLOCK = re.compile(r"^```yaml\n(version: 1\n.*?)^```", re.MULTILINE | re.DOTALL)
IN_DOCS = [(page.name, block) for page in sorted((ROOT / "docs").glob("*.md")) for block in BLOCK.findall(page.read_text(encoding="utf-8"))]


class TestSchema:
    def test_committed(self, capsys: pytest.CaptureFixture[str]) -> None:
        """The schema in the repository is the one the command prints."""
        assert main(["policy", "schema"]) == 0
        committed = ROOT / "policy" / "schema.json"
        assert capsys.readouterr().out == committed.read_text(encoding="utf-8") == schema_text()

    def test_declares_its_draft(self) -> None:
        """It is a sound schema of draft 07, the newest one that VS Code and IntelliJ read in full."""
        schema = json.loads(schema_text())
        assert DRAFT == schema["$schema"] == "http://json-schema.org/draft-07/schema#"
        jsonschema.Draft7Validator.check_schema(schema)

    def test_nothing_beside_a_reference(self) -> None:
        """In draft 07 a reference hides what stands beside it, so nothing does."""
        todo: list[object] = [policy_schema()]
        while todo:
            node = todo.pop()
            if isinstance(node, dict):
                assert "$ref" not in node or len(node) == 1, node
                todo.extend(node.values())
            elif isinstance(node, list):
                todo.extend(node)

    def test_knows_the_keys(self) -> None:
        """Every key of a rule, a test, a limit and an approval is described, under the name the file uses."""
        definitions = policy_schema()["definitions"]
        assert {"tool", "not", "unless", "over", "decision"} <= definitions["Rule"]["properties"].keys()
        assert {"in", "not", "email_domain", "origin"} <= definitions["Test"]["properties"].keys()
        undescribed = [
            (name, key)
            for name, definition in definitions.items()
            for key, field in definition["properties"].items()
            if "description" not in field and (name, key) != ("FileCase", "call")
        ]
        assert [] == undescribed

    @pytest.mark.parametrize("path", [*SHIPPED, *GOOD], ids=lambda path: path.stem)
    def test_accepts_what_loads(self, path: Path) -> None:
        """Every policy we ship and every good one of the tests is valid."""
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert [] == [error.message for error in jsonschema.Draft7Validator(policy_schema()).iter_errors(document)]

    @pytest.mark.parametrize(("page", "block"), IN_DOCS)
    def test_accepts_the_documents(self, page: str, block: str) -> None:
        """Every policy of the documents is valid."""
        assert [] == [error.message for error in jsonschema.Draft7Validator(policy_schema()).iter_errors(yaml.safe_load(block))]

    def test_a_public_program_agrees(self) -> None:
        """check-jsonschema, which reads YAML 1.2 by itself, accepts the schema and every policy we ship."""
        schema = ROOT / "policy" / "schema.json"
        for words in (["--check-metaschema", str(schema)], ["--schemafile", str(schema), *map(str, SHIPPED)]):
            done = subprocess.run([sys.executable, "-m", "check_jsonschema", *words], capture_output=True, text=True, check=False)
            assert (0, "") == (done.returncode, done.stderr), done.stdout

    @pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
    def test_shipped_policies_name_it(self, path: Path) -> None:
        """The first line of each policy tells editors where its schema is."""
        assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")

    def test_the_short_forms(self, tmp_path: Path) -> None:
        """What the loader takes in a short form the schema takes too."""
        text = (
            "version: 1\ndefault: deny\nrules:\n  - id: a\n    tool: t\n    args: {x: {length: 3, origin: user}, y: {origin: [user, config]}}\n"
            "    decision: allow\n"
        )
        path = tmp_path / "p.yaml"
        path.write_text(text)
        assert load_policy([path]).rules == 1
        assert jsonschema.Draft7Validator(policy_schema()).is_valid(yaml.safe_load(text))
