"""The meaning of policies once more: slow and obvious, straight from the page and the raw rules, without a line of the engine's code.

No index, no closures, no cache, no early return. Operators that read a language (paths, URLs, addresses, commands, queries) look the value up in
`random_values`, where a person wrote down what each one is; so this file says what follows from a reading, and not how to read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

Tri = bool | None
ABSENT, UNKNOWN, INAPPLICABLE = object(), object(), object()
RANK = {"allow": 0, "require-approval": 1, "retryable-failure": 2, "deny": 3}
SECONDS = {"ms": Fraction(1, 1000), "s": Fraction(1), "min": Fraction(60), "m": Fraction(60), "h": Fraction(3600), "d": Fraction(86400)}
# Keys of a rule that are no conditions.
HEAD = {"id", "kind", "tool", "name", "decision", "mode", "reason", "approval", "retry", "over"}


class Opaque:
    """A value that is there and cannot be read."""


@dataclass
class Situation:
    """A call and everything that is known around it.

    Args:
        kind, name, args, user, roles, tenant, session, run, call_id, agents, tags, context, registered: As in an action.
        signature: Declared arguments and their types (`?` at the end: optional and nullable); None when nothing declares them.
        labels, history: None when unknown.
        used: What each counter stands at, by rule and owner; a missing one is unknown.
        seen: Where values were seen, by value; a missing one is unknown.
        failed: True when the store of facts failed.
        attempt: Starts at 1.
        tried: True when its attempt was counted already.
    """

    kind: str
    name: str
    args: dict[str, Any]
    user: str | None = None
    roles: set[str] | None = None
    tenant: str | None = None
    session: str | None = None
    run: str | None = None
    call_id: str | None = None
    agents: tuple[str, ...] = ()
    tags: set[str] = field(default_factory=set)
    context: dict[str, Any] = field(default_factory=dict)
    registered: bool = True
    signature: dict[str, str] | None = None
    labels: set[str] | None = None
    history: set[str] | None = None
    used: dict[tuple[str, str], Fraction] = field(default_factory=dict)
    seen: dict[Any, set[str]] = field(default_factory=dict)
    failed: bool = False
    attempt: int = 1
    tried: bool = False


@dataclass
class Said:
    """What the reference says.

    Args:
        value: What is enforced.
        would_be: What would be without shadow mode.
        matched: Id and outcome of every rule that is not false.
        approvers: Requirements, as rule, approvers and quorum.
        terms: Expiry, use within, editable fields.
        retry: Wait in seconds and attempts in all.
        counted: Rule and owner of each counter of attempts that goes up, whatever is decided.
    """

    value: str
    would_be: str
    matched: set[tuple[str, str]] = field(default_factory=set)
    approvers: set[tuple[str, tuple[str, ...], int]] = field(default_factory=set)
    terms: tuple[float, float | None, frozenset[str]] | None = None
    retry: tuple[float, int] | None = None
    counted: set[tuple[str, str]] = field(default_factory=set)


def invert(value: Tri) -> Tri:
    return None if value is None else not value


def every(values: list[Tri]) -> Tri:
    return False if False in values else None if None in values else True


def some(values: list[Tri]) -> Tri:
    return True if True in values else None if None in values else False


def many(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def exact(value: Any) -> Fraction | None:
    """The number a value is; a float is its shortest decimal text."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return Fraction(repr(value))


def same(left: Any, right: Any) -> Tri:
    for kind in (bool, str):
        if isinstance(left, kind) or isinstance(right, kind):
            return left == right if isinstance(left, kind) and isinstance(right, kind) else None
    one, other = exact(left), exact(right)
    return None if one is None or other is None else one == other


def fits_glob(text: str, pattern: str) -> bool:
    """`*` alone is everything; else one or more characters, none of them a separator."""
    if pattern == "*":
        return True
    return re.fullmatch("".join("[^.:]+" if char == "*" else re.escape(char) for char in pattern), text, re.DOTALL) is not None


def duration(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)([a-z]+)", text).groups()  # type: ignore[union-attr]  # our own texts
    return float(Fraction(number) * SECONDS[unit])


class Reference:
    """One policy and one call.

    Args:
        policy: The file, as plain data.
        call: The call and what is known around it.
        read: What a person says of each value, by operator (`random_values.READ`).
    """

    def __init__(self, policy: Mapping[str, Any], call: Situation, read: Mapping[str, Any]) -> None:
        self.policy = policy
        self.call = call
        self.read = read
        self.entry: Mapping[str, Any] | None = policy.get("tools", {}).get(call.name) if call.kind == "tool" else None
        declared = self.entry.get("args") if self.entry is not None else None
        self.signature: dict[str, str] | None = declared if declared is not None else call.signature

    # --- the whole -----------------------------------------------------------------------------------------------------------------------

    def decide(self) -> Said:
        shadow = self.policy.get("mode") == "shadow"
        if self.refused():
            return Said("allow" if shadow else "deny", "deny", counted=self.counted())
        agents: list[str | None] = list(dict.fromkeys(self.call.agents)) or [None]
        if not any("agent" in keys_of(rule) for rule in self.policy["rules"] if self.about(rule)):
            agents = agents[:1]
        views = [self.view(agent) for agent in agents]
        strictest = max((self.strictest(self.enforced(view)) for view in views), key=RANK.__getitem__)
        counting: dict[str, tuple[Any, Tri]] = {}
        for view in views:
            if self.strictest(self.enforced(view)) == strictest:
                merge(counting, self.enforced(view))
        seen: dict[str, tuple[Any, Tri]] = {}
        for view in views:
            merge(seen, view)
        # Shadow rules of every caller count for what would have been.
        would_be = strictest
        with_shadow = dict(counting)
        for view in views:
            if self.strictest(self.enforced(view)) == strictest:
                merge(with_shadow, view)
        would_be = self.strictest(list(with_shadow.values()))
        said = Said("allow" if shadow else strictest, would_be)
        said.counted = self.counted()
        said.matched = {(rule["id"], "true" if holds else "unknown") for rule, holds in seen.values()}
        if not shadow:
            self.add_terms(said, [pair for pair in counting.values() if self.says(*pair) == strictest])
        return said

    def refused(self) -> bool:
        """The catalogue: an unregistered tool, or arguments that do not fit."""
        call = self.call
        if call.kind != "tool":
            return False
        if re.fullmatch(r"[A-Za-z0-9_.:-]{1,128}", call.name) is None or not (call.registered or self.entry is not None):
            return True
        if self.signature is None:
            return False
        for name, value in call.args.items():
            if name not in self.signature:
                return True
            kind = self.signature[name]
            if value is None:
                if not kind.endswith("?") and kind != "any":
                    return True
            elif self.of_type(value, kind.rstrip("?")) is False:
                return True
        return any(not kind.endswith("?") and name not in call.args for name, kind in self.signature.items())

    def of_type(self, value: Any, kind: str) -> Tri:
        if "|" in kind:
            return some([self.of_type(value, part) for part in kind.split("|")])
        if isinstance(value, Opaque):
            return True if kind == "any" else None
        if kind.startswith("list["):
            return every([self.of_type(item, kind[5:-1]) for item in value]) if isinstance(value, list) else False
        if kind == "any":
            return True
        if isinstance(value, bool):
            return kind == "bool"
        kinds = {"str": str, "int": int, "float": (int, float), "number": (int, float), "list": list, "dict": dict, "bool": bool}
        return isinstance(value, kinds[kind])  # type: ignore[arg-type]  # types and tuples of them

    def enforced(self, view: list[tuple[Any, Tri]]) -> list[tuple[Any, Tri]]:
        return [pair for pair in view if pair[0].get("mode") != "shadow"]

    def strictest(self, pairs: list[tuple[Any, Tri]]) -> str:
        said = [word for pair in pairs if (word := self.says(*pair)) is not None]
        if said:
            return max(said, key=RANK.__getitem__)
        return str(self.policy["default"]) if self.call.kind in {"tool", "capability"} else "allow"

    def says(self, rule: Mapping[str, Any], holds: Tri) -> str | None:
        decision: str = rule["decision"]
        if decision == "allow":
            return "allow" if holds else None
        if decision != "retryable-failure":
            return decision
        backend = holds is None and self.call.failed and self.asks_facts(rule)
        if holds is None and not backend:
            return "deny"
        return "deny" if self.call.attempt >= rule.get("retry", {}).get("max_attempts", 3) else decision

    def asks_facts(self, rule: Mapping[str, Any]) -> bool:
        return "over" in rule or bool(keys_of({key: value for key, value in rule.items() if key not in HEAD}) & {"after", "when", "origin"})

    def add_terms(self, said: Said, deciding: list[tuple[Any, Tri]]) -> None:
        if said.value == "require-approval":
            terms = [(rule["id"], rule["approval"]) for rule, _ in deciding] or [("default", self.policy["approval"])]
            said.approvers = {(name, tuple(one["approvers"]), one.get("quorum", 1)) for name, one in terms}
            uses = [duration(one["use_within"]) for _, one in terms if "use_within" in one]
            edits = [frozenset(one.get("edit", [])) for _, one in terms]
            said.terms = (
                min(duration(one.get("expires", "1h")) for _, one in terms),
                min(uses, default=None),
                frozenset.intersection(*edits),
            )
        if said.value == "retryable-failure":
            retries = [rule.get("retry", {}) for rule, _ in deciding]
            said.retry = (max(duration(one.get("after", "1s")) for one in retries), min(one.get("max_attempts", 3) for one in retries))

    # --- rules and conditions ------------------------------------------------------------------------------------------------------------

    def view(self, agent: str | None) -> list[tuple[Any, Tri]]:
        found = [(rule, self.rule(rule, agent)) for rule in self.policy["rules"] if self.about(rule)]
        return [(rule, holds) for rule, holds in found if holds is not False]

    def about(self, rule: Mapping[str, Any]) -> bool:
        patterns = rule.get("tool", rule.get("name"))
        if rule.get("kind", "tool") != self.call.kind:
            return False
        return patterns is None or any(fits_glob(self.call.name, pattern) for pattern in many(patterns))

    def rule(self, rule: Mapping[str, Any], agent: str | None) -> Tri:
        conditions = [self.condition(key, value, agent) for key, value in rule.items() if key not in HEAD]
        if "over" in rule:
            conditions.append(self.over(rule["id"], rule["over"]))
        return every(conditions)

    def block(self, block: Mapping[str, Any], agent: str | None) -> Tri:
        return every([self.condition(key, value, agent) for key, value in block.items()])

    def condition(self, key: str, value: Any, agent: str | None) -> Tri:
        if key in {"not", "unless"}:
            return invert(self.block(value, agent))
        if key in {"all_of", "any_of"}:
            return (every if key == "all_of" else some)([self.block(part, agent) for part in value])
        if key == "after":
            return self.after(value)
        if key == "when":
            answer: Tri = self.read["when"][value]
            return answer
        if key in {"args", "context", "session"}:
            subjects = {"args": self.argument, "context": self.fact, "session": self.of_session}
            return every([self.asked(test, self.pool(name) if "|" in name else subjects[key](name)) for name, test in value.items()])
        return self.identity(key, value, agent)

    def identity(self, key: str, value: Any, agent: str | None) -> Tri:
        """Who calls what."""
        call = self.call
        if key in {"tool", "name"}:
            return any(fits_glob(call.name, pattern) for pattern in many(value))
        if key == "agent":
            return agent is not None and any(fits_glob(agent, pattern) for pattern in many(value))
        if key == "user":
            return None if call.user is None else call.user in many(value)
        if key == "role":
            return None if call.roles is None else bool(call.roles & set(many(value)))
        if key == "tags":
            carried = call.tags | set(many(self.entry.get("tags", [])) if self.entry is not None else [])
            return bool(carried & set(many(value)))
        return all(name in value or given is None or isinstance(given, Opaque) for name, given in call.args.items())

    def after(self, value: Mapping[str, Any]) -> Tri:
        results: list[Tri] = []
        if "label" in value:
            results.append(None if self.call.labels is None else bool(self.call.labels & set(many(value["label"]))))
        if "tool" in value:
            history = self.call.history
            fits = None if history is None else any(fits_glob(name, pattern) for name in history for pattern in many(value["tool"]))
            results.append(fits)
        return every(results)

    def over(self, rule: str, over: Mapping[str, Any]) -> Tri:
        """A limit is passed when the amount does not fit any more, or when it is used up already."""
        amount: Fraction | None
        if "calls" in over or "attempts" in over:
            limit, amount = Fraction(over.get("calls", over.get("attempts"))), Fraction(1)
            if "attempts" in over and self.call.tried:
                return False
        elif "usd" in over or "tokens" in over:
            limit, amount = Fraction(str(over.get("usd", over.get("tokens")))), Fraction(str(over.get("reserve", 0)))
        else:
            limit, value = Fraction(str(over["max"])), self.argument(over["sum"].removeprefix("args."))
            if value is INAPPLICABLE:
                return False
            amount = Fraction(0) if value is ABSENT else exact(value)
        owners = self.owners(over)
        if amount is None or amount < 0 or not owners:
            return None
        used = [self.call.used.get((rule, owner)) for owner in owners]
        return some([None if now is None else now + amount > limit or now >= limit for now in used])

    def owners(self, over: Mapping[str, Any]) -> tuple[str, ...]:
        owners = {"all": ("all",), "agent": tuple(f"agent:{name}" for name in self.call.agents)}.get(over["by"])
        if owners is None:
            owner = getattr(self.call, over["by"])
            owners = () if owner is None else (f"{over['by']}:{owner}",)
        return owners

    def counted(self) -> set[tuple[str, str]]:
        """A call that may be what a limit of attempts is about is an attempt, also when it is refused."""
        counting = [
            rule for rule in self.policy["rules"] if self.about(rule) and "attempts" in rule.get("over", {}) and not self.call.tried
        ]
        views: list[str | None] = list(dict.fromkeys(self.call.agents)) or [None]
        return {
            (rule["id"], owner)
            for rule in counting
            for owner in self.owners(rule["over"])
            if any(every([self.condition(key, rule[key], agent) for key in rule if key not in HEAD]) is not False for agent in views)
        }

    # --- values --------------------------------------------------------------------------------------------------------------------------

    def argument(self, name: str) -> Any:
        value = self.call.args.get(name, ABSENT)
        if value is None:
            return ABSENT
        if value is not ABSENT:
            return value
        if self.signature is None:
            return UNKNOWN
        return ABSENT if name in self.signature else INAPPLICABLE

    def fact(self, name: str) -> Any:
        kind, value = self.policy["context"][name], self.call.context.get(name)
        if value is None:
            return ABSENT if kind.endswith("?") else UNKNOWN
        return value if self.of_type(value, kind.rstrip("?")) is True else UNKNOWN

    def of_session(self, name: str) -> Any:
        value = self.call.session if name == "id" else getattr(self.call, name)
        return UNKNOWN if value is None else value

    def pool(self, names: str) -> Any:
        values = [self.argument(name) for name in names.split("|")]
        if all(value is INAPPLICABLE for value in values):
            return INAPPLICABLE
        pool: list[Any] = []
        for value in values:
            if value is INAPPLICABLE or value is ABSENT or (isinstance(value, str | dict | list) and not value):
                continue
            pool.extend(value if isinstance(value, list) else [value])
        return pool

    def operand(self, operand: Any) -> Any:
        if not isinstance(operand, dict):
            return operand
        root, _, name = operand["ref"].partition(".")
        return {"args": self.argument, "context": self.fact, "session": self.of_session}[root](name)

    # --- tests ---------------------------------------------------------------------------------------------------------------------------

    def asked(self, test: Mapping[str, Any], value: Any) -> Tri:
        """A test on what stands under a name."""
        return False if value is INAPPLICABLE else self.test(test, value)

    def test(self, test: Mapping[str, Any], value: Any) -> Tri:
        return every([self.operator(name, operand, ABSENT if value is None else value) for name, operand in test.items()])

    def operator(self, name: str, operand: Any, value: Any) -> Tri:
        if name in {"all_of", "any_of"}:
            return (every if name == "all_of" else some)([self.test(part, value) for part in operand])
        if name == "not":
            return invert(self.test(operand, value))
        if value is UNKNOWN:
            return None
        if name == "exists":
            return bool((value is not ABSENT) == operand)
        if value is ABSENT:
            return False
        if isinstance(value, Opaque):
            return None
        return self.on_value(name, operand, value)

    def on_value(self, name: str, operand: Any, value: Any) -> Tri:
        if name in {"some", "every", "none"}:
            return self.elements(name, operand, value)
        if name == "length":
            test = {"eq": operand} if isinstance(operand, int) else operand
            return self.test(test, len(value)) if isinstance(value, str | list | dict) else None
        if name in {"eq", "ne", "gt", "gte", "lt", "lte", "contains"}:
            return self.compared(name, value, self.operand(operand))
        if name in {"in", "not_in"}:
            return self.among(name, operand, value)
        if name in {"starts_with", "ends_with"}:
            return some([self.begins(name, value, self.operand(part)) for part in many(operand)])
        if name == "origin":
            return self.origin(operand, value)
        return self.on_text(name, operand, value) if isinstance(value, str) else None

    def elements(self, name: str, operand: Any, value: Any) -> Tri:
        if not isinstance(value, list):
            return None
        results = [self.test(operand, item) for item in value]
        if name == "every":
            return every(results) if results else False
        return some(results) if name == "some" else invert(some(results))

    def among(self, name: str, operand: Any, value: Any) -> Tri:
        options = self.operand(operand)
        if not isinstance(options, list):
            return None
        read = [self.operand(option) for option in options]
        results = [same(value, option) for option in read]
        # What a reference does not tell could be the value itself.
        hidden = any(option in (ABSENT, UNKNOWN, INAPPLICABLE) or isinstance(option, Opaque | list | dict) for option in read)
        found = True if True in results else None if hidden else False if False in results else None
        return found if name == "in" else invert(found)

    def on_text(self, name: str, operand: Any, value: str) -> Tri:
        if name == "glob":
            return any(fits_glob(value, pattern) for pattern in many(operand))
        if name in {"regex", "search"}:
            find = re.fullmatch if name == "regex" else re.search
            return any(find(pattern, value) is not None for pattern in many(operand))
        answer: Tri = self.read[name](operand, value)
        return answer

    def begins(self, name: str, value: Any, part: Any) -> Tri:
        if not isinstance(value, str) or not isinstance(part, str):
            return None
        return value[: len(part)] == part if name == "starts_with" else part == "" or value[-len(part) :] == part

    def compared(self, name: str, value: Any, other: Any) -> Tri:
        if other in (ABSENT, UNKNOWN, INAPPLICABLE):
            return None
        if name in {"eq", "ne"}:
            return same(value, other) if name == "eq" else invert(same(value, other))
        if name == "contains":
            if isinstance(value, str):
                return other in value if isinstance(other, str) else None
            return some([same(item, other) for item in value]) if isinstance(value, list) else None
        left, right = exact(value), exact(other)
        if left is None or right is None:
            return None
        return {"gt": left > right, "gte": left >= right, "lt": left < right, "lte": left <= right}[name]

    def origin(self, operand: Any, value: Any) -> Tri:
        asked = operand if isinstance(operand, dict) else {"any_of": operand}
        key = value if isinstance(value, str) and len(value.strip()) >= 4 else exact(value)
        seen = self.call.seen.get(key) if key is not None else None
        if seen is None:
            return None
        results = []
        for how, names in asked.items():
            if how == "only":
                results.append(self.only(many(names), seen))
            else:
                found = self.at_one(many(names), seen)
                results.append(found if how == "any_of" else invert(found))
        return every(results)

    def at_one(self, names: list[str], seen: set[str]) -> Tri:
        sure = {one for one in seen if not one.startswith("lost:")}
        lost = {one.removeprefix("lost:") for one in seen if one.startswith("lost:")}
        if any(self.names(name, one) for name in names for one in sure) or ("unseen" in names and not seen):
            return True
        maybe = any(one == "*" or self.names(name, one) for name in names for one in lost)
        # With nothing found and a source lost, it may have stood there or nowhere.
        return None if maybe or ("unseen" in names and not sure and lost) else False

    def only(self, names: list[str], seen: set[str]) -> Tri:
        sure = {one for one in seen if not one.startswith("lost:")}
        lost = {one.removeprefix("lost:") for one in seen if one.startswith("lost:")}
        if any(not any(self.names(name, one) for name in names) for one in sure):
            return False
        if any(one == "*" or not any(self.names(name, one) for name in names) for one in lost) or (lost and not sure):
            return None
        return bool(sure)

    def names(self, name: str, source: str) -> bool:
        """Whether a rule's word means a source."""
        tool = self.policy.get("tools", {}).get(source.removeprefix("tool:"), {}) if source.startswith("tool:") else {}
        if name == "trusted":
            return source in {"user", "config"} or bool(tool.get("trusted_source"))
        if name.startswith("label:"):
            return name.removeprefix("label:") in many(tool.get("adds", []))
        return name != "unseen" and fits_glob(source, name)


def merge(into: dict[str, tuple[Any, Tri]], view: list[tuple[Any, Tri]]) -> None:
    """What is certain for one caller is certain."""
    for rule, holds in view:
        known = into.get(rule["id"])
        into[rule["id"]] = (rule, True if holds or (known is not None and known[1]) else None)


def keys_of(node: Any) -> set[str]:
    """Every key anywhere inside."""
    if isinstance(node, dict):
        return set(node).union(*(keys_of(value) for value in node.values()))
    return set().union(*(keys_of(value) for value in node)) if isinstance(node, list) else set()
