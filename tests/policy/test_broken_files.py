"""Deliberately broken policy files: each fault is found where it is, under its code, and all of them at once.

`§` marks the place of a fault, and is taken out before the file is read.
"""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
import yaml

from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import load_policy
from otel_runtime.policy.schema import policy_schema

HEAD = "version: 1\ndefault: deny\n"
RULE = "  - {id: a, tool: t, decision: allow}\n"

# Name -> text with marks, codes in the order of the marks.
BROKEN: dict[str, tuple[str, str]] = {
    # --- what is no document ---
    "tab-indent": ("version: 1\nrules:\n§\t- {id: a}\n", "Y001"),
    "unclosed-list": (HEAD + "rules:\n  - {id: a, tool: [t, decision: allow§}\n", "Y001"),
    # Told where it begins, not where the parser gives up.
    "unclosed-brace": (HEAD + "rules:\n  - §{id: a, tool: t, args: {x: {eq: 1}, decision: allow}\n" + RULE, "Y001"),
    "unclosed-brace-at-the-end": (HEAD + "rules:\n  - §{id: a, tool: t, decision: allow # }\n\n", "Y001"),
    "comma-missing-between-lines": ('{"version": 1,\n "default": "deny"\n §"rules": []}\n', "Y001"),
    "comma-missing-between-items": ("version: 1\nrules: [\n  {id: a},\n  {id: b}\n  §{id: c}\n]\n", "Y001"),
    "unclosed-quote": (HEAD + 'rules:\n  - id: a\n    reason: §"not closed\n    tool: t\n    decision: allow\n', "Y001"),
    "quote-in-quotes": (HEAD + "rules:\n  - id: a\n    reason: 'don'§t'\n    decision: allow\n", "Y001"),
    "no-colon": (HEAD + "rules:\n  - id: a\n    §tool\n    decision: allow\n", "Y001"),
    "bare-star": (HEAD + "rules:\n  - {id: a, tool: §*, decision: allow}\n", "Y001"),
    "bare-star-in-a-list": (HEAD + "rules:\n  - id: a\n    tool:\n      - x\n      - §*.read\n    decision: allow\n", "Y001"),
    "bare-at": (HEAD + "rules:\n  - {id: a, tool: §@x, decision: allow}\n", "Y001"),
    "escape-of-nothing": (HEAD + 'rules:\n  - {id: a, tool: t, args: {x: {regex: "§\\d+"}}, decision: allow}\n', "Y001"),
    "duplicate-key": (HEAD + "§default: allow\nrules:\n" + RULE, "Y003"),
    "duplicate-key-in-rule": (HEAD + "rules:\n  - {id: a, tool: t, decision: allow, §tool: u}\n", "Y003"),
    "anchor": (HEAD + "rules: §&all\n" + RULE, "Y004"),
    "alias": (HEAD + "rules:\n" + RULE + "  - §*all\n", "Y004"),
    "merge-key": (HEAD + "rules:\n  - {§<<: {id: a}, tool: t, decision: allow}\n", "Y004"),
    "tag": (HEAD + "rules:\n  - {id: §!!str a, tool: t, decision: allow}\n", "Y005"),
    "directive": ("§%YAML 1.1\n---\n" + HEAD, "Y006"),
    "second-document": (HEAD + "rules:\n" + RULE + "§---\nversion: 1\n", "Y007"),
    "boolean-of-yaml-1.1": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {exists: §yes}}, decision: allow}\n", "Y008"),
    "octal": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {eq: §010}}, decision: allow}\n", "Y008"),
    "hexadecimal": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {eq: §0x1F}}, decision: allow}\n", "Y008"),
    "date": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {eq: §2026-01-01}}, decision: allow}\n", "Y008"),
    "not-a-number": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {gt: §.nan}}, decision: allow}\n", "Y008"),
    "control-character": (HEAD + 'rules:\n  - {id: a, tool: t, decision: allow, reason: "a§\x07b"}\n', "Y002"),
    "empty": ("§", "P002"),
    "a-list": ("§- a\n- b\n", "P002"),
    # --- the head ---
    "no-version": ("§default: deny\nrules:\n" + RULE, "P004"),
    "wrong-version": ("version: §2\ndefault: deny\nrules:\n" + RULE, "P005"),
    "no-default": ("§version: 1\nrules:\n" + RULE, "P011"),
    "version-that-is-true": ("version: §true\ndefault: deny\nrules:\n" + RULE, "P005"),
    "version-that-is-a-decimal": ("version: §1.0\ndefault: deny\nrules:\n" + RULE, "P005"),
    "misspelt-version": ("§vesion: 1\ndefault: deny\nrules:\n" + RULE, "P003"),
    "misspelt-default": ("version: 1\ndefault: §Deny\nrules:\n" + RULE, "P005"),
    "default-asks-nobody": ("version: 1\ndefault: §require-approval\nrules:\n" + RULE, "P013"),
    "default-with-stray-approval": (HEAD + "§approval: {approvers: [anyone]}\nrules:\n" + RULE, "P013"),
    "no-rules": (HEAD + "§rules: []\n", "P012"),
    "unknown-head-key": (HEAD + "§ruels:\n" + RULE + "rules:\n" + RULE.replace("id: a", "id: b"), "P003"),
    "include": (HEAD + "§include: other.yaml\nrules:\n" + RULE, "P003"),
    "null-default": ("version: 1\ndefault: §null\nrules:\n" + RULE, "P005"),
    "wrong-mode": (HEAD + "mode: §dry-run\nrules:\n" + RULE, "P005"),
    # --- one rule ---
    "no-id": (HEAD + "rules:\n  - §{tool: t, decision: allow}\n", "P004"),
    "no-decision": (HEAD + "rules:\n  - §{id: a, tool: t}\n", "P004"),
    "effect": (HEAD + "rules:\n  - {id: a, tool: t, decision: allow, §effect: allow}\n", "P003"),
    "misspelt-decision": (HEAD + "rules:\n  - {id: a, tool: t, §decison: allow}\n", "P003"),
    "effect-instead-of-decision": (HEAD + "rules:\n  - {id: a, tool: t, §effect: allow}\n", "P003"),
    "misspelt-condition": (HEAD + "rules:\n  - {id: a, tool: t, §unles: {user: x}, decision: allow}\n", "P003"),
    "id-with-space": (HEAD + "rules:\n  - {id: §a b, tool: t, decision: allow}\n", "P016"),
    "id-twice": (HEAD + "rules:\n" + RULE + "  - {id: §a, tool: u, decision: deny}\n", "P010"),
    "one-of-several-tools": (HEAD + "rules:\n  - id: a\n    tool:\n      - x\n      - §send mail\n    decision: allow\n", "P016"),
    "one-of-several-numbers": (HEAD + "rules:\n  - {id: a, tool: [t, §7], decision: allow}\n", "P016"),
    "approval-missing": (HEAD + "rules:\n  - {id: a, tool: t, decision: §require-approval}\n", "P013"),
    "approval-on-allow": (HEAD + "rules:\n  - {id: a, tool: t, decision: allow, §approval: {approvers: [anyone]}}\n", "P013"),
    "retry-on-deny": (HEAD + "rules:\n  - {id: a, tool: t, decision: deny, §retry: {after: 1s}}\n", "P013"),
    "model-sent-to-approval": (
        HEAD + "rules:\n  - {id: a, kind: model, decision: §require-approval, approval: {approvers: [anyone]}}\n",
        "P021",
    ),
    "approver-without-kind": (
        HEAD + "rules:\n  - {id: a, tool: t, decision: require-approval, approval: {approvers: [§finance]}}\n",
        "P016",
    ),
    "quorum-of-nobody": (
        HEAD + "rules:\n  - {id: a, tool: t, decision: require-approval, approval: {approvers: [acting-user], quorum: §2}}\n",
        "P013",
    ),
    "expires-without-unit": (
        HEAD + "rules:\n  - {id: a, tool: t, decision: require-approval, approval: {approvers: [anyone], expires: §30}}\n",
        "P016",
    ),
    "expires-at-once": (
        HEAD + "rules:\n  - {id: a, tool: t, decision: require-approval, approval: {approvers: [anyone], expires: §0s}}\n",
        "P016",
    ),
    "used-within-no-time": (
        HEAD + "rules:\n  - {id: a, tool: t, decision: require-approval, approval: {approvers: [anyone], use_within: §0s}}\n",
        "P016",
    ),
    "expires-in-a-million-years": (
        HEAD + "rules:\n  - {id: a, tool: t, decision: require-approval, approval: {approvers: [anyone], expires: §365000000d}}\n",
        "P016",
    ),
    "edit-of-what-no-tool-has": (
        HEAD
        + "tools: {t: {args: {amount: int, note: str}}}\nrules:\n"
        + "  - {id: a, tool: t, decision: require-approval, approval: {approvers: [anyone], edit: [note, §amout]}}\n",
        "P018",
    ),
    "on-expiry": (
        HEAD + "rules:\n  - {id: a, tool: t, decision: require-approval, approval: {approvers: [anyone], §on_expiry: allow}}\n",
        "P003",
    ),
    "name-on-a-tool-rule": (HEAD + "rules:\n  - {id: a, §name: t, decision: allow}\n", "P013"),
    "double-star": (HEAD + 'rules:\n  - {id: a, tool: §"t.**", decision: allow}\n', "P016"),
    "empty-tool-list": (HEAD + "rules:\n  - {id: a, tool: §[], decision: allow}\n", "P016"),
    "empty-exception": (HEAD + "rules:\n  - {id: a, tool: t, unless: §{}, decision: allow}\n", "P013"),
    "no-such-predicate": (HEAD + 'rules:\n  - {id: a, tool: t, when: §"no_such_module:f", decision: allow}\n', "P019"),
    # --- conditions on values ---
    "unknown-operator": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {§lte_: 1}}, decision: allow}\n", "P014"),
    "empty-test": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: §{}}, decision: allow}\n", "P013"),
    "number-in-quotes": (HEAD + 'rules:\n  - {id: a, tool: t, args: {x: {gt: §"5"}}, decision: allow}\n', "P016"),
    "in-without-list": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {in: §EUR}}, decision: allow}\n", "P016"),
    "one-of-several-values": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {in: [EUR, §[USD]]}}, decision: allow}\n", "P016"),
    "one-of-several-expressions": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {regex: [a, §'[']}}, decision: allow}\n", "P015"),
    "one-of-several-domains": (
        HEAD + "rules:\n  - {id: a, tool: t, args: {x: {email_domain: [a.example, §'@b.example']}}, decision: allow}\n",
        "P016",
    ),
    "one-of-several-hosts": (
        HEAD + "rules:\n  - {id: a, tool: t, args: {x: {url: {host: [a.example, §'https://b.example']}}}, decision: allow}\n",
        "P016",
    ),
    "one-of-several-ports": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {url: {port: [80, §0]}}}, decision: allow}\n", "P016"),
    "one-of-several-sources": (
        HEAD + "rules:\n  - {id: a, tool: t, args: {x: {origin: {none_of: [user, §usr]}}}, decision: deny}\n",
        "P016",
    ),
    "eq-null": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {eq: §null}}, decision: allow}\n", "P016"),
    "look-ahead": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {regex: §'(?=a)b'}}, decision: allow}\n", "P015"),
    "address-as-domain": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {email_domain: §me@corp.example}}, decision: allow}\n", "P016"),
    "relative-folder": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {under: §data}}, decision: allow}\n", "P016"),
    "workspace-of-nothing": (HEAD + 'rules:\n  - {id: a, tool: t, args: {x: {under: §"workspace:data"}}, decision: allow}\n', "P023"),
    "path-as-file-name": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {file_name: §a/.env}}, decision: deny}\n", "P016"),
    "url-as-text": (HEAD + 'rules:\n  - {id: a, tool: t, args: {x: {url: §"https://a.example"}}, decision: allow}\n', "P016"),
    "port-of-65536": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {url: {host: a.example, port: §65536}}}, decision: allow}\n", "P016"),
    "shell-in-runs-only": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {runs_only: [ls, §bash]}}, decision: allow}\n", "P016"),
    "unknown-reader": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {reads_only: [ls, §mytool]}}, decision: allow}\n", "P016"),
    "unknown-dialect": (
        HEAD + "rules:\n  - {id: a, tool: t, args: {x: {sql: {dialect: §postgre, schemas: app}}}, decision: allow}\n",
        "P016",
    ),
    "unknown-source": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {origin: §model}}, decision: allow}\n", "P016"),
    "bad-reference": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: {eq: §{ref: user}}}, decision: allow}\n", "P016"),
    "undeclared-fact": (HEAD + "rules:\n  - {id: a, tool: t, context: {§risk: {eq: high}}, decision: deny}\n", "P017"),
    "undeclared-argument": (
        HEAD + "tools: {t: {args: {amount: int}}}\nrules:\n  - {id: a, tool: t, args: {§amout: {gt: 1}}, decision: allow}\n",
        "P018",
    ),
    "pool-with-a-slip": (
        HEAD
        + "tools: {t: {args: {to: str, bcc: str}}}\nrules:\n"
        + '  - {id: a, tool: t, args: {§"to|bbc": {some: {eq: x}}}, decision: deny}\n',
        "P018",
    ),
    "pool-without-quantifier": (HEAD + 'rules:\n  - {id: a, tool: t, args: {"to|cc": {§eq: x}}, decision: allow}\n', "P016"),
    "unknown-type": (HEAD + "tools: {t: {args: {amount: §money}}}\nrules:\n" + RULE, "P016"),
    # --- limits ---
    "limit-on-allow": (HEAD + "rules:\n  - {id: a, tool: t, §over: {calls: 1, by: user, per: 1h}, decision: allow}\n", "P022"),
    "two-limits-in-one": (HEAD + 'rules:\n  - {id: a, tool: t, §over: {calls: 1, usd: "2", by: user, per: 1h}, decision: deny}\n', "P022"),
    "sum-without-max": (HEAD + "rules:\n  - {id: a, tool: t, §over: {sum: args.x, by: user, per: 1h}, decision: deny}\n", "P022"),
    "day-without-zone": (HEAD + "rules:\n  - {id: a, tool: t, over: {calls: 1, by: user, per: §day}, decision: deny}\n", "P022"),
    "zone-of-a-duration": (
        HEAD + "rules:\n  - {id: a, tool: t, over: {calls: 1, by: user, per: 1h, tz: §UTC}, decision: deny}\n",
        "P022",
    ),
    "window-without-unit": (HEAD + "rules:\n  - {id: a, tool: t, over: {calls: 1, by: user, per: §60}, decision: deny}\n", "P016"),
    "window-of-a-million-years": (
        HEAD + "rules:\n  - {id: a, tool: t, over: {calls: 1, by: user, per: §365000000d}, decision: deny}\n",
        "P022",
    ),
    "grouped-money": (HEAD + 'rules:\n  - {id: a, kind: model, over: {usd: §"1_000", by: user, per: 1h}, decision: deny}\n', "P016"),
    "money-in-other-digits": (
        HEAD + 'rules:\n  - {id: a, kind: model, over: {usd: §"\uff11\uff10", by: user, per: 1h}, decision: deny}\n',
        "P016",
    ),
    "unknown-zone": (
        HEAD + "rules:\n  - {id: a, tool: t, over: {calls: 1, by: user, per: day, tz: §Europe/Berlim}, decision: deny}\n",
        "P022",
    ),
    "by-nobody": (HEAD + "rules:\n  - {id: a, tool: t, over: {calls: 1, by: §team, per: 1h}, decision: deny}\n", "P005"),
    "negative-limit": (HEAD + "rules:\n  - {id: a, tool: t, over: {calls: §-1, by: user, per: 1h}, decision: deny}\n", "P005"),
    "sum-of-what-no-tool-has": (
        HEAD
        + "tools: {t: {args: {amount: int}}}\nrules:\n"
        + "  - {id: a, tool: t, over: {sum: §args.amout, max: 5, by: user, per: 1h}, decision: deny}\n",
        "P018",
    ),
    "sum-of-a-word": (HEAD + "rules:\n  - {id: a, tool: t, over: {sum: §amount, max: 5, by: user, per: 1h}, decision: deny}\n", "P016"),
    "half-a-token": (HEAD + "rules:\n  - {id: a, tool: t, over: {tokens: 9, reserve: §0.5, by: user, per: 1h}, decision: deny}\n", "P022"),
    "attempts-in-reserve": (
        HEAD + "rules:\n  - {id: a, tool: t, over: {attempts: 9, §reserve: 1, by: user, per: 1h}, decision: deny}\n",
        "P022",
    ),
    "predicate-without-function": (HEAD + "rules:\n  - {id: a, tool: t, when: §os.path, decision: deny}\n", "P016"),
    "rule-that-is-a-word": (HEAD + "rules:\n  - §read\n", "P005"),
    "condition-that-is-a-value": (HEAD + "rules:\n  - {id: a, tool: t, args: {x: §5}, decision: allow}\n", "P005"),
    "nobody-may-approve": (HEAD + "rules:\n  - {id: a, tool: t, decision: require-approval, approval: {approvers: §[]}}\n", "P005"),
    "exception-of-nothing": (HEAD + "rules:\n  - {id: a, tool: t, all_of: §[], decision: allow}\n", "P005"),
    "half-a-call": (HEAD + "rules:\n  - {id: a, tool: t, over: {calls: §1.5, by: user, per: 1h}, decision: deny}\n", "P005"),
    "reason-that-is-a-number": (HEAD + "rules:\n  - {id: a, tool: t, decision: deny, reason: §5}\n", "P005"),
    "no-attempt": (HEAD + "rules:\n  - {id: a, tool: t, decision: retryable-failure, retry: {max_attempts: §0}}\n", "P005"),
    # --- cases ---
    "match-that-does-not": (
        HEAD + "rules:\n  - {id: a, tool: t, args: {x: {gt: 5}}, decision: allow, match: [§{args: {x: 5}}]}\n",
        "P020",
    ),
    "no-match-that-does": (
        HEAD + "rules:\n  - {id: a, tool: t, args: {x: {gt: 5}}, decision: allow, no_match: [§{args: {x: 6}}]}\n",
        "P020",
    ),
    "case-that-fails": (HEAD + "rules:\n" + RULE + "cases:\n  - {call: {tool: t}, expect: §deny}\n", "P020"),
    "case-of-an-undeclared-fact": (
        HEAD
        + "context: {risk: str}\nrules:\n"
        + "  - {id: a, tool: t, context: {risk: {eq: low}}, decision: allow, no_match: [{context: {§rsk: high, risk: high}}]}\n",
        "P017",
    ),
    "case-seen-nowhere": (
        HEAD + "rules:\n  - {id: a, tool: t, decision: deny, match: [{args: {x: 1}, seen: {§find_contact: x}}]}\n",
        "P016",
    ),
    "case-of-no-tool": (HEAD + 'rules:\n  - {id: a, tool: "t*", decision: allow, match: [§{}]}\n', "P020"),
    # --- all at once ---
    "several": (
        (
            "version: 1\ndefault: §Deny\ntools: {t: {args: {amount: §money}}}\nrules:\n"
            "  - {id: §a b, tool: t, decision: §Allow}\n  - {id: c, tool: t, args: {x: {§equals: 1}}, decision: allow}\n"
        ),
        "P005 P016 P016 P005 P014",
    ),
}

# What a schema can see: shape, not names that must exist or values that must fit each other. YAML's own faults come before any schema.
STRUCTURAL = """
    no-version wrong-version misspelt-default default-asks-nobody default-with-stray-approval unknown-head-key include null-default wrong-mode
    no-id no-decision effect misspelt-condition id-with-space approval-missing approval-on-allow retry-on-deny approver-without-kind
    expires-without-unit on-expiry empty-tool-list empty-exception unknown-operator empty-test number-in-quotes in-without-list eq-null
    url-as-text bad-reference two-limits-in-one sum-without-max by-nobody negative-limit several
""".split()


def marked(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The file without marks, and where they stood."""
    places = []
    for line, content in enumerate(text.split("\n"), 1):
        parts = content.split("§")
        places += [(line, len("".join(parts[:nth])) + 1) for nth in range(1, len(parts))]
    return text.replace("§", ""), places


class TestBrokenFiles:
    def test_there_are_enough(self) -> None:
        """More than fifty files, each broken in its own way."""
        assert len(BROKEN) >= 50
        assert len({text for text, _ in BROKEN.values()}) == len(BROKEN)

    @pytest.mark.parametrize("name", BROKEN)
    def test_place_and_code(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every fault is told with file, line, column and code, and no other is."""
        monkeypatch.chdir(tmp_path)
        text, codes = BROKEN[name]
        plain, places = marked(text)
        path = tmp_path / f"{name}.yaml"
        path.write_text(plain, encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_policy([path])
        expected = [f"{path}:{line}:{column}: error[{code}]" for (line, column), code in zip(places, codes.split(), strict=True)]
        assert expected == [str(fault).partition("]: ")[0] + "]" for fault in caught.value.faults]

    @pytest.mark.parametrize("name", BROKEN)
    def test_teaches(self, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Every message begins in lower case, shows the line with a caret, and says more than that something is wrong."""
        monkeypatch.chdir(tmp_path)
        path = tmp_path / "p.yaml"
        path.write_text(marked(BROKEN[name][0])[0], encoding="utf-8")
        with pytest.raises(ConfigError) as caught:
            load_policy([path])
        for fault in caught.value.faults:
            assert not fault.message[0].isupper(), fault.message
            assert len(fault.message) > 15
            # Whoever writes rules need not know what they are read with.
            assert not {"pydantic", "dictionary", "instance", "validation", "pattern", "integer"} & set(fault.message.split())
            assert not fault.text or str(fault).endswith("^")

    @pytest.mark.parametrize("name", STRUCTURAL)
    def test_the_schema_sees_shape(self, name: str) -> None:
        """What is wrong in the shape of a file is refused by the schema as well, so that editors show it while one types."""
        document = yaml.safe_load(marked(BROKEN[name][0])[0])
        assert not jsonschema.Draft7Validator(policy_schema()).is_valid(document)
