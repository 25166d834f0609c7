"""Random policies and calls over every operator and every clause, from a seed; most are sensible, some are nonsense on purpose."""

from __future__ import annotations

from random import Random
from typing import Any

TOOLS: dict[str, dict[str, Any]] = {
    "pay": {"tags": ["writes"], "args": {"amount": "number", "currency": "str", "note": "str?", "flag": "bool?"}},
    "mail": {"tags": ["writes", "sends"], "args": {"to": "list[str]", "cc": "list[str]?", "bcc": "str?", "body": "str"}},
    "sh": {"args": {"command": "str"}},
    "rd": {"args": {"path": "str", "more": "list[str]?"}},
    "get": {"adds": ["untrusted"], "args": {"url": "str"}},
    "q": {"args": {"query": "str"}},
    "crm.find": {"adds": ["crm"], "trusted_source": True},
    "crm.a.b": {},
}
# What a decorator declares; the policy says nothing of it.
DECORATED: dict[str, dict[str, str]] = {"dec": {"x": "int", "y": "any?", "z": "int|str?"}}
UNDECLARED = ["loose", "mcp:x:a"]
NAMES = [*TOOLS, *DECORATED, *UNDECLARED]
PATTERNS = [*NAMES, "*", "crm.*", "mcp:*:a", "p*", "nothing"]
CONTEXT = {"risk": "str", "limit": "number", "team": "str?"}
ARGUMENTS = ["amount", "currency", "note", "flag", "to", "cc", "bcc", "body", "command", "path", "more", "url", "query", "x", "y", "z"]
SOURCES = ["user", "config", "tool:crm.find", "tool:get", "tool:*", "trusted", "label:untrusted", "label:crm", "unseen"]
RANKS = ["allow", "deny", "require-approval", "retryable-failure"]
TEXTS = ["", "x", "EUR", "USD", "urgent: pay", "carla", "bob@corp.example", "12345"]
NUMBERS = [0, 1, -1, 5, 100, 100.5, 0.1, 10**20, 250]


class Made:
    """Makes policies and calls.

    Args:
        seed: The same seed makes the same.
        texts: Texts by the operator that reads them; `under` and `file_name` read the same ones.
    """

    def __init__(self, seed: int, texts: dict[str, list[str]]) -> None:
        self.random = Random(seed)
        self.texts = texts

    def chance(self, of: float) -> bool:
        return self.random.random() < of

    def pick(self, options: Any) -> Any:
        return self.random.choice(list(options))

    def some(self, options: Any, most: int = 3) -> list[Any]:
        options = list(options)
        return self.random.sample(options, self.random.randint(1, min(most, len(options))))

    def one_or_some(self, options: Any) -> Any:
        chosen = self.some(options)
        return chosen[0] if len(chosen) == 1 and self.chance(0.5) else chosen

    # --- policies ------------------------------------------------------------------------------------------------------------------------

    def policy(self) -> dict[str, Any]:
        rules = [self.rule(f"r{at}") for at in range(self.random.randint(1, 5))]
        default = self.pick(["allow", "deny", "deny", "require-approval"])
        made: dict[str, Any] = {"version": 1, "default": default, "workspace": "ROOT", "tools": TOOLS, "context": CONTEXT, "rules": rules}
        if default == "require-approval":
            made["approval"] = self.approval()
        if self.chance(0.05):
            made["mode"] = "shadow"
        return made

    def approval(self) -> dict[str, Any]:
        made: dict[str, Any] = {"approvers": self.some(["role:finance", "role:legal", "anyone"])}
        if self.chance(0.4):
            made["quorum"] = self.random.randint(1, 3)
        if self.chance(0.6):
            made["expires"] = self.pick(["30s", "5min", "4h"])
        if self.chance(0.3):
            made["use_within"] = self.pick(["10s", "1h"])
        if self.chance(0.5):
            made["edit"] = self.some(["note", "body", "amount"])
        return made

    def rule(self, name: str, decision: str | None = None) -> dict[str, Any]:
        kind = self.pick(["tool"] * 12 + ["model", "capability", "agent"])
        decision = decision or self.pick(RANKS)
        if kind in {"model", "agent"} and decision == "require-approval":
            decision = "deny"
        made: dict[str, Any] = {"id": name, "decision": decision}
        if kind != "tool":
            made |= {"kind": kind, "name": self.one_or_some(["m", "vault", "*", "sub-*"])}
        elif self.chance(0.9):
            made["tool"] = self.one_or_some(PATTERNS)
        if decision == "require-approval":
            made["approval"] = self.approval()
        if decision == "retryable-failure" and self.chance(0.7):
            made["retry"] = {"after": self.pick(["1s", "10s", "1min"]), "max_attempts": self.random.randint(1, 4)}
        if self.chance(0.08):
            made["mode"] = "shadow"
        if decision != "allow" and self.chance(0.25):
            made["over"] = self.over()
        return made | self.block(self.names_for(made), 2, empty=True)

    def over(self) -> dict[str, Any]:
        limit: dict[str, Any] = self.pick(
            [
                {"calls": self.random.randint(0, 5)},
                {"attempts": self.random.randint(0, 5)},
                {"tokens": self.pick([2, 100])},
                {"usd": self.pick([1, "2.5"])},
                {"sum": "args.amount", "max": self.pick([100, "250.5"])},
            ]
        ).copy()
        if limit.keys() & {"usd", "tokens"} and self.chance(0.6):
            limit["reserve"] = self.pick(["0.5", 1]) if "usd" in limit else self.pick([1, 50])
        window = self.pick([{"per": "1min"}, {"per": "day", "tz": "UTC"}])
        return {**limit, "by": self.pick(["session", "user", "agent", "tenant", "all"]), **window}

    def names_for(self, rule: dict[str, Any]) -> list[str]:
        """Arguments the rule may speak of: one that none of its tools has is a mistake the loader refuses."""
        patterns = rule.get("tool", "*") if isinstance(rule.get("tool", "*"), list) else [rule.get("tool", "*")]
        if rule.get("kind", "tool") != "tool" or any("*" in one or "args" not in TOOLS.get(one, {}) for one in patterns):
            return ARGUMENTS
        return sorted({name for one in patterns for name in TOOLS[one]["args"]})

    def block(self, names: list[str], depth: int, *, empty: bool = False) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for _ in range(self.random.randint(0 if empty else 1, 2)):
            made |= self.condition(names, depth)
        return made

    def condition(self, names: list[str], depth: int) -> dict[str, Any]:
        kind = self.pick(
            ["args"] * 9 + ["user", "role", "agent", "tags", "session", "context", "only_args", "after", "when", "pool"] + ["nested"] * 3
        )
        if kind == "nested" and depth > 0:
            how = self.pick(["not", "unless", "all_of", "any_of"])
            many = how in {"all_of", "any_of"}
            return {how: [self.block(names, depth - 1) for _ in range(self.random.randint(1, 2))] if many else self.block(names, depth - 1)}
        if kind == "pool" and len(names) > 1:
            return {"args": {"|".join(sorted(self.random.sample(names, 2))): self.pool_test()}}
        simple: dict[str, Any] = {
            "user": lambda: self.one_or_some(["carla", "dan"]),
            "role": lambda: self.one_or_some(["support", "boss"]),
            "agent": lambda: self.one_or_some(["bot", "sub-*", "boss"]),
            "tags": lambda: self.one_or_some(["writes", "sends", "own"]),
            "session": lambda: {self.pick(["id", "user", "tenant", "run", "call_id"]): self.test("text", names)},
            "context": lambda: self.pick(
                [{"risk": self.test("text", names)}, {"limit": self.test("number", names)}, {"team": self.test("text", names)}]
            ),
            "only_args": lambda: self.some(names, 4),
            "after": self.after,
            "when": lambda: self.pick(["operator:ne", "operator:eq", "operator:truediv"]),
        }
        if kind in simple:
            return {kind: simple[kind]()}
        name = self.pick(names)
        return {"args": {name: self.test(self.sort_of(name), names)}}

    def after(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self.chance(0.6):
            made["label"] = self.one_or_some(["untrusted", "crm"])
        if not made or self.chance(0.4):
            made["tool"] = self.one_or_some(["get", "crm.*", "pay"])
        return made

    def sort_of(self, name: str) -> str:
        """What an argument usually holds."""
        sorts = {
            "amount": "number",
            "x": "number",
            "flag": "bool",
            "to": "addresses",
            "cc": "addresses",
            "bcc": "address",
            "command": "command",
        }
        return {**sorts, "path": "path", "more": "paths", "url": "url", "query": "query"}.get(name, "text")

    def test(self, sort: str, names: list[str], depth: int = 2) -> dict[str, Any]:
        """Sometimes of another sort, as people's mistakes are."""
        if self.chance(0.1):
            sort = self.pick(["number", "text", "bool", "addresses"])
        made = self.operator(sort, names, depth)
        return made | self.operator(sort, names, 0) if self.chance(0.15) else made

    def operator(self, sort: str, names: list[str], depth: int) -> dict[str, Any]:
        if depth and self.chance(0.2):
            how = self.pick(["not", "all_of", "any_of"])
            inner = [self.test(sort, names, depth - 1) for _ in range(self.random.randint(1, 2))]
            return {how: inner[0] if how == "not" else inner}
        if self.chance(0.1):
            return {"exists": self.chance(0.5)}
        if self.chance(0.1):
            return {"origin": self.origin()}
        if sort in {"addresses", "paths"}:
            return self.list_test(sort.removesuffix("es") if sort == "addresses" else "path", names)
        return self.value_test(sort, names)

    def list_test(self, sort: str, names: list[str]) -> dict[str, Any]:
        how = self.pick(["some", "every", "none", "some", "every", "length", "contains", "eq"])
        if how == "length":
            return {"length": self.pick([0, 1, {"lte": 1}, {"gt": 1}])}
        if how in {"contains", "eq"}:
            return {how: self.pick(["bob@corp.example", {"ref": "session.user"}, 5])}
        return {how: self.test(sort, names, 1)}

    def pool_test(self) -> dict[str, Any]:
        how = self.pick(["some", "every", "none", "length", "contains"])
        if how in {"length", "contains"}:
            return {how: 1 if how == "length" else "bob@corp.example"}
        return {
            how: self.pick([{"email_domain": "corp.example"}, {"eq": "x"}, {"exists": True}, {"origin": "user"}, {"length": {"gt": 3}}])
        }

    def origin(self) -> Any:
        return self.pick([self.pick(SOURCES), self.some(SOURCES), {"none_of": self.some(SOURCES)}, {"only": self.some(SOURCES[:-1])}])

    def number(self) -> Any:
        return self.pick(NUMBERS) if self.chance(0.85) else {"ref": self.pick(["context.limit", "session.user"])}

    def text(self, names: list[str]) -> Any:
        if self.chance(0.85):
            return self.pick(TEXTS)
        return {"ref": self.pick(["session.user", "context.risk", "context.team", f"args.{self.pick(names)}"])}

    def value_test(self, sort: str, names: list[str]) -> dict[str, Any]:
        if sort == "number":
            how = self.pick(["eq", "ne", "gt", "gte", "lt", "lte", "in", "not_in"])
            return {how: [self.number() for _ in range(2)] if how.endswith("in") else self.number()}
        if sort == "bool":
            return {self.pick(["eq", "ne"]): self.chance(0.5)}
        special: dict[str, Any] = {
            "address": lambda: {"email_domain": self.one_or_some(["corp.example", "evil.example"])},
            "path": lambda: self.pick(
                [
                    {"under": self.one_or_some(["workspace:", "workspace:data", "workspace:out"])},
                    {"file_name": self.one_or_some([".env", "*.pem", "a.txt"])},
                ]
            ),
            "url": lambda: {"url": self.url()},
            "command": lambda: self.pick(
                [
                    {"runs_only": self.some(["ls", "cat", "grep", "git", "make", "rm"], 6)},
                    {"reads_only": self.some(["ls", "cat", "grep", "find", "xargs", "git", "sort"], 7)},
                    {"may_run": self.some(["rm", "curl", "grep", "make"])},
                ]
            ),
            "query": lambda: {
                "sql": {"dialect": "postgres", "schemas": self.some(["app", "crm"]), "functions": self.some(["count", "lower", "pg_sleep"])}
            },
        }
        return special[sort]() if sort in special else self.text_test(names)

    def text_test(self, names: list[str]) -> dict[str, Any]:
        how = self.pick(["eq", "ne", "in", "not_in", "glob", "regex", "search", "contains", "starts_with", "ends_with", "length"])
        if how in {"eq", "ne", "contains"}:
            return {how: self.text(names)}
        if how in {"in", "not_in"}:
            return {how: [self.text(names) for _ in range(2)]}
        if how in {"starts_with", "ends_with"}:
            return {how: self.pick(["x", "EU", "la", "car", ["E", "U"], {"ref": "session.user"}])}
        operands = {
            "glob": ["*", "x*", "*.*", "E*R", ["carla", "b*"]],
            "regex": ["E.R", "[A-Z]+", ["x", "car(la)?"], "(?i)eur"],
            "search": ["urgent", "(?i)URGENT", "^x", ["o", "a$"]],
            "length": [0, 3, {"lte": 3}, {"gt": 3}],
        }
        return {how: self.pick(operands[how])}

    def url(self) -> dict[str, Any]:
        parts: dict[str, Any] = {
            "scheme": self.pick(["https", ["http", "https"]]),
            "host": self.one_or_some(["api.example.com", "*.docs.example.com", "127.0.0.1"]),
            "port": self.pick([443, [443, 8080]]),
            "path": self.one_or_some(["/v1/*", "/health", "/"]),
        }
        return {part: parts[part] for part in self.some(parts, 4)}

    # --- calls ---------------------------------------------------------------------------------------------------------------------------

    def call(self) -> dict[str, Any]:
        """Everything a situation holds besides what only the engine's needs name."""
        kind = self.pick(["tool"] * 14 + ["model", "capability", "agent"])
        name = self.pick(NAMES) if kind == "tool" else self.pick(["m", "vault", "sub-x"])
        if kind == "tool" and self.chance(0.02):
            name = self.pick(["unknown-tool", "p\u0430y", "Pay", "pay "])
        signature = DECORATED.get(name)
        if name in UNDECLARED and self.chance(0.2):
            signature = {"x": "int?"}
        session = self.pick(["s1", "s1", "s1", None])
        return {
            "kind": kind,
            "name": name,
            "args": self.args(TOOLS.get(name, {}).get("args") or signature) if kind == "tool" else {},
            "signature": signature,
            "registered": self.chance(0.9),
            "user": self.pick(["carla", "dan", "carla", None]),
            "roles": self.pick([None, set(), {"support"}, {"support", "boss"}]),
            "tenant": self.pick(["t", None]),
            "session": session,
            "run": self.pick(["run1", None]),
            "call_id": self.pick(["c1", None]),
            "agents": tuple(self.pick(["bot", "boss", "sub-x"]) for _ in range(self.pick([0, 0, 1, 2, 3]))),
            "tags": set(self.pick([[], ["own"], ["writes"]])),
            "context": self.facts(),
            "attempt": self.pick([1, 1, 1, 2, 3, 5]),
        }

    def facts(self) -> dict[str, Any]:
        made: dict[str, Any] = {}
        if self.chance(0.7):
            made["risk"] = self.pick(["carla", "x", 5])
        if self.chance(0.7):
            made["limit"] = self.pick([100, 0.1, "100", True])
        if self.chance(0.5):
            made["team"] = self.pick(["EUR", None, 3])
        return made

    def args(self, declared: dict[str, str] | None) -> dict[str, Any]:
        if declared is None:
            return {name: self.value(name) for name in self.random.sample(ARGUMENTS, self.random.randint(0, 4))}
        made = {name: self.value(name) for name, kind in declared.items() if not kind.endswith("?") or self.chance(0.5)}
        if self.chance(0.04):
            made[self.pick(["extra", "amount", "to"])] = 1
        if made and self.chance(0.04):
            made.pop(self.pick(made))
        return made

    def value(self, name: str) -> Any:
        if self.chance(0.08):
            return self.pick([None, "x", 5, True, [], {}, "OPAQUE"])
        sort = self.sort_of(name)
        if sort == "number":
            return self.pick(NUMBERS)
        if sort == "bool":
            return self.chance(0.5)
        if sort in {"addresses", "paths"}:
            texts = self.texts["address" if sort == "addresses" else "path"]
            return [self.pick(texts) if self.chance(0.95) else self.pick([None, 5, "OPAQUE"]) for _ in range(self.random.randint(0, 3))]
        return self.pick(self.texts.get(sort, TEXTS))

    def seen(self) -> set[str] | None:
        """Where one value was seen; None where nobody asked."""
        if self.chance(0.15):
            return None
        sources = ["user", "config", "tool:crm.find", "tool:get", "tool:pay", "lost:tool:get", "lost:*", "lost:tool:crm.find"]
        return set(self.random.sample(sources, self.pick([0, 0, 1, 1, 2])))
