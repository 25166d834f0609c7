"""What one hook process leaves for the next: it decides exactly as the whole reading does, and whatever is odd about it is read anew."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_runtime.audit.key import derive, key_path_for, load_or_create_key
from otel_runtime.errors import ConfigError
from otel_runtime.integrations import claude_code_kept, claude_code_sources
from otel_runtime.integrations.claude_code_kept import Kept
from otel_runtime.integrations.claude_code_rules import Rules, rules_for
from otel_runtime.policy.engine import PolicyEngine
from otel_runtime.policy.explain import explain
from otel_runtime.policy.loading import load_policy
from otel_runtime.policy.preserving import ruleset_from, ruleset_json
from otel_runtime.policy.protocol import Engine, FactsView, Ruling
from otel_runtime.settings.documents import read_document
from otel_runtime.settings.loading import load_settings
from otel_runtime.values.action import Action

ROOT = Path(__file__).parents[2]
FILES = [*sorted((ROOT / "policy").glob("*.yaml")), *sorted((ROOT / "tests/policy/cases").glob("*.yaml"))]
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DENY = "version: 1\ndefault: deny\nrules:\n  - {id: never, tool: Bash, decision: deny, reason: never}\n"
ALLOW = "version: 1\ndefault: deny\nrules:\n  - {id: always, tool: Bash, decision: allow}\n"
EXTRA_ARGS: list[dict[str, Any]] = [
    {},
    {"command": "ls -la", "path": "data/x.txt", "file_path": "/etc/passwd", "url": "https://a.example/v1", "amount": 7},
    {"command": "rm -rf / && echo", "query": "select 1", "to": ["a@corp.example", "b@evil.example"], "amount": Decimal("1e9"), "x": None},
]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose policy denies."""
    for name in [name for name in os.environ if name.startswith("OTEL_RUNTIME_")]:
        monkeypatch.delenv(name)
    project = tmp_path / "project"
    (project / ".git").mkdir(parents=True)
    (project / "otel-runtime.yaml").write_text("policy: policy.yaml\n")
    (project / "policy.yaml").write_text(DENY)
    monkeypatch.chdir(project)
    # A checkout may be edited while the tests run.
    stamps = list(claude_code_sources._code_stamps())
    monkeypatch.setattr(claude_code_sources, "_code_stamps", lambda: stamps)
    return project


def rules(tool: str = "Bash", *, keep: bool = True, given: Path | None = None) -> Rules:
    return rules_for(tool, lambda: load_settings(given), given, keep=keep)


def said(found: Rules, tool: str = "Bash", **args: object) -> str:
    assert found.engine is not None
    return found.engine.decide(Action("tool", tool, args, session="s"), None, NOW).decision.value


def written(path: Path) -> dict[str, Any]:
    plain = read_document(path.read_bytes(), str(path)).plain()
    assert isinstance(plain, dict)
    return plain


def actions(policy: dict[str, Any]) -> Iterator[Action]:
    """Calls that every rule of a policy can matter for: those of its cases, and others of the same tools."""
    names = {"Bash", "unheard.of", *policy.get("tools", {})}
    calls: list[tuple[str, dict[str, Any], dict[str, Any]]] = []
    for rule in policy["rules"]:
        patterns = [rule["tool"]] if isinstance(rule.get("tool"), str) else rule.get("tool", [])
        mine = [pattern.replace("*", "x") for pattern in patterns]
        names |= set(mine)
        for case in (*rule.get("match", ()), *rule.get("no_match", ())):
            calls.extend((case.get("tool", name), case.get("args", {}), case) for name in mine)
    calls.extend((case["call"]["tool"], case["call"].get("args", {}), case) for case in policy.get("cases", ()))
    for name, args, case in [*calls, *((name, args, {}) for name in sorted(names) for args in EXTRA_ARGS)]:
        yield Action(
            "tool", name, args, agents=("claude-code",), session="s", user=case.get("user", "ann"), context=case.get("context", {})
        )


def ruled(engine: Engine, action: Action) -> list[Ruling]:
    """The rulings on an action without facts, with clean ones and with tainted ones."""
    needs = engine.needs(action, NOW)
    views: list[FactsView | None] = [None]
    if needs is not None:
        zero = dict.fromkeys(needs.counters, Decimal(0))
        full = dict.fromkeys(needs.counters, Decimal(10) ** 9)
        seen = dict.fromkeys(needs.values, frozenset({"user"}))
        views += [
            FactsView(zero, {}, frozenset(), origins=seen),
            FactsView(full, {"untrusted": frozenset({"x"})}, frozenset({"web_fetch", "x"})),
        ]
    return [engine.decide(action, view, NOW) for view in views]


def plain(ruling: Ruling) -> Ruling:
    """Without what a clock puts in."""
    return dataclasses.replace(ruling, decision=dataclasses.replace(ruling.decision, duration_s=0.0))


class TestSame:
    """With and without what was kept."""

    @pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
    def test_decisions_of_every_policy_we_have(self, project: Path, path: Path) -> None:
        """Value, rule, place, reason, digest, matches and what is begun are equal for every call of every policy."""
        (project / "otel-runtime.yaml").write_text(f"policy: {path}\n")
        whole = rules(keep=False)
        assert not rules().kept
        assert whole.engine is not None
        compared = 0
        for action in actions(written(path)):
            kept = rules(action.name)
            assert (True, True) == (kept.kept, kept.engine is not None)
            assert kept.engine is not None
            assert kept.engine.digest == whole.engine.digest
            assert whole.engine.needs(action, NOW) == kept.engine.needs(action, NOW)
            assert list(map(plain, ruled(whole.engine, action))) == list(map(plain, ruled(kept.engine, action)))
            compared += 1
        assert compared >= 10

    @pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}-{path.name}")
    def test_explanations_of_every_policy_we_have(self, project: Path, path: Path) -> None:
        """Each condition and why it holds or not: the closures are the same ones."""
        loaded = load_policy([path])
        again = PolicyEngine(ruleset_from(ruleset_json(loaded.ruleset)).compiled([path, path]))
        for action in actions(written(path)):
            assert explain(action, loaded.engine.policy, None, NOW) == explain(action, again.policy, None, NOW)

    def test_faults(self, project: Path) -> None:
        """A policy that is broken after it was kept is refused in the same words."""
        rules()
        for text in ("version: 1\nrules: [", "version: 1\ndefault: deny\nrules: []\n", DENY.replace("Bash", "B ash"), "", "[]"):
            (project / "policy.yaml").write_text(text)
            with pytest.raises(ConfigError) as whole:
                rules(keep=False)
            with pytest.raises(ConfigError) as kept:
                rules()
            assert str(whole.value) == str(kept.value)

    def test_faults_of_settings(self, project: Path) -> None:
        """So are settings, and a policy that is gone."""
        rules()
        for text in ("polcy: policy.yaml\n", "policy: nowhere.yaml\n", "policy: [", "state: 7\n"):
            (project / "otel-runtime.yaml").write_text(text)
            with pytest.raises(ConfigError) as whole:
                rules(keep=False)
            with pytest.raises(ConfigError) as kept:
                rules()
            assert str(whole.value) == str(kept.value)

    def test_what_no_rule_can_open(self, project: Path) -> None:
        """State, key, settings, policy, what was kept itself and what was counted are protected either way."""
        (project / "policy.yaml").write_text(
            "version: 1\ndefault: deny\nworkspace: .\nrules:\n  - {id: all, tool: Read, args: {path: {under: 'workspace:.'}}, decision: allow}\n"
        )
        whole = rules("Read")
        kept = rules("Read")
        assert (False, True) == (whole.kept, kept.kept)
        names = [
            "policy.yaml",
            "otel-runtime.yaml",
            ".otel-runtime/state.db",
            ".otel-runtime/state.db.key",
            ".otel-runtime/state.db-policy",
            ".otel-runtime/hooks/facts.jsonl",
        ]
        for found in (whole, kept):
            assert ["deny"] * 6 + ["allow"] == [said(found, "Read", path=str(project / name)) for name in [*names, "README.md"]]

    def test_history_of_rules_about_other_tools(self, project: Path) -> None:
        """A start that only another tool's rule asks about is recorded all the same."""
        (project / "policy.yaml").write_text(ALLOW + "  - {id: after, tool: Post, after: {tool: Bash}, decision: deny}\n")
        action = Action("tool", "Bash", {}, session="s")
        starts = [found.engine.decide(action, None, NOW).start for found in (rules(), rules()) if found.engine is not None]
        assert [("s", "Bash")] * 2 == [(start.session, start.tool) for start in starts if start is not None]

    def test_of_a_pack(self, project: Path) -> None:
        """A policy that comes with the package is kept by its content too."""
        (project / "otel-runtime.yaml").write_text("policy: pack:coding-agent\n")
        whole, kept = rules("Read"), rules("Read")
        assert (False, True) == (whole.kept, kept.kept)
        assert whole.engine is not None
        assert kept.engine is not None
        assert whole.engine.digest == kept.engine.digest

    def test_without_a_policy(self, project: Path) -> None:
        """That a project has none is kept too."""
        (project / "otel-runtime.yaml").write_text("console: false\n")
        assert [(None, False), (None, True)] == [(found.engine, found.kept) for found in (rules(), rules())]


class TestChange:
    """Whatever the rules are made of."""

    @pytest.mark.parametrize(
        "change",
        [
            lambda project, _: (project / "policy.yaml").write_text(ALLOW),
            lambda project, _: (project / "otel-runtime.yaml").write_text("policy: other.yaml\n"),
            lambda project, _: (project / "sub" / "otel-runtime.yaml").write_text("policy: ../other.yaml\n"),
            lambda project, _: (project / "sub" / "pyproject.toml").write_text('[tool.otel-runtime]\npolicy = "../other.yaml"\n'),
            lambda _, patch: patch.setenv("OTEL_RUNTIME_POLICY", "../other.yaml"),
            lambda _, patch: patch.setenv("OTEL_RUNTIME_CONFIG", "../other-settings.yaml"),
        ],
        ids=["policy", "settings", "nearer-settings", "nearer-pyproject", "variable", "named-by-a-variable"],
    )
    def test_is_seen_at_once(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path, pytest.MonkeyPatch], object]
    ) -> None:
        """The next decision is by the new rules."""
        (project / "sub").mkdir()
        (project / "other.yaml").write_text(ALLOW)
        (project / "other-settings.yaml").write_text("policy: other.yaml\n")
        monkeypatch.chdir(project / "sub")
        rules()
        assert ("deny", True) == (said(rules()), rules().kept)
        change(project, monkeypatch)
        assert "allow" == said(rules())
        assert "allow" == said(rules())

    def test_of_a_folder(self, project: Path) -> None:
        """A file that comes, goes or is renamed into the policy."""
        (project / "policy").mkdir()
        (project / "otel-runtime.yaml").write_text("policy: policy\n")
        (project / "policy" / "a.yaml").write_text(ALLOW)
        rules()
        assert ("allow", True) == (said(rules()), rules().kept)
        more = project / "policy" / "b.txt"
        more.write_text(DENY.replace("default: deny\n", ""))
        assert rules().kept
        more.rename(more.with_suffix(".yaml"))
        assert "deny" == said(rules())
        more.with_suffix(".yaml").unlink()
        assert "allow" == said(rules())

    @pytest.mark.parametrize("name", ["__version__", "_FORMAT"])
    def test_of_version(self, project: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        """What another version kept is read anew."""
        rules()
        monkeypatch.setattr(claude_code_sources, name, "9.9")
        assert [False, True] == [rules().kept, rules().kept]

    def test_of_python(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """And what another Python did."""
        rules()
        monkeypatch.setattr(sys, "version", "4.0")
        assert [False, True] == [rules().kept, rules().kept]

    def test_of_the_code_that_reads_rules(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A checkout changes without its version."""
        stamps = list(claude_code_sources._code_stamps())
        assert {"loading.py", "model.py", "operators.py", "documents.py", "action.py", "protected.py"} <= {
            Path(stamp.split()[0]).name for stamp in stamps
        }
        rules()
        monkeypatch.setattr(claude_code_sources, "_code_stamps", lambda: [*stamps[1:], stamps[0] + "0"])
        assert not rules().kept


class TestForgery:
    """A file that this user did not write, or not with the key."""

    def kept(self, project: Path) -> Path:
        rules()
        assert rules().kept
        return project / ".otel-runtime" / "state.db-policy"

    def forged(self, path: Path) -> bytes:
        """The content that would allow what the policy denies."""
        body = path.read_bytes().partition(b"\n")[2]
        assert b'["decision", "deny"]' in body or b'["decision","deny"]' in body
        return body.replace(b'["decision","deny"]', b'["decision","allow"]')

    def test_cut_off(self, project: Path) -> None:
        """At any length it is read anew, and mended."""
        path = self.kept(project)
        content = path.read_bytes()
        for length in [*range(0, len(content), 97), 63, 64, 65, len(content) - 1]:
            path.write_bytes(content[:length])
            assert ("deny", False) == (said(found := rules()), found.kept)
            assert path.read_bytes() == content

    def test_changed_anywhere(self, project: Path) -> None:
        """One bit is enough."""
        path = self.kept(project)
        content = path.read_bytes()
        for at in range(0, len(content), 131):
            path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
            assert ("deny", False) == (said(found := rules()), found.kept)

    @pytest.mark.parametrize("key", [b"", b"x" * 32, b"\0" * 32])
    def test_written_without_the_key(self, project: Path, key: bytes) -> None:
        """Rules that allow, under the code of another key, the old code or none."""
        path = self.kept(project)
        code, body = path.read_bytes().partition(b"\n")[0], self.forged(path)
        for forged in (claude_code_kept._code(key, body), code, b""):
            path.write_bytes(forged + b"\n" + body)
            assert ("deny", False) == (said(found := rules()), found.kept)

    def test_what_the_key_is_for(self, project: Path) -> None:
        """With it anybody could write rules: this is what the key guards, and the test that forging is tried in earnest."""
        path = self.kept(project)
        body = self.forged(path)
        path.write_bytes(claude_code_kept._code(load_or_create_key(project / ".otel-runtime" / "state.db"), body) + b"\n" + body)
        assert ("allow", True) == (said(found := rules()), found.kept)
        assert derive(b"k" * 32, "hook-policy") != derive(b"k" * 32, "audit")

    def test_of_another_project(self, project: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
        """A sound file of one project says nothing in another, even with one key for both."""
        (project / "policy.yaml").write_text(ALLOW)
        allowing = self.kept(project).read_bytes()
        other = tmp_path_factory.mktemp("other")
        (other / ".git").mkdir()
        (other / "otel-runtime.yaml").write_text("policy: policy.yaml\n")
        (other / "policy.yaml").write_text(DENY)
        monkeypatch.chdir(other)
        path = self.kept(other)
        key_path_for(other / ".otel-runtime" / "state.db").write_bytes(key_path_for(project / ".otel-runtime" / "state.db").read_bytes())
        path.write_bytes(allowing)
        assert ("deny", False) == (said(found := rules()), found.kept)

    def test_of_an_earlier_policy(self, project: Path) -> None:
        """What was kept of rules that are no longer in force is of no use."""
        (project / "policy.yaml").write_text(ALLOW)
        path = self.kept(project)
        earlier = path.read_bytes()
        (project / "policy.yaml").write_text(DENY)
        rules()
        path.write_bytes(earlier)
        assert ("deny", False) == (said(found := rules()), found.kept)

    @pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
    def test_that_others_may_write(self, project: Path, mode: int) -> None:
        """A file with more than one possible author."""
        path = self.kept(project)
        path.chmod(mode)
        assert not rules().kept

    def test_under_another_name(self, project: Path) -> None:
        """A link, a hard link, a pipe or a folder in its place; the pipe does not make it wait."""
        path = self.kept(project)
        content = path.read_bytes()
        away = project / "away"
        away.write_bytes(content)
        makers: list[Callable[[], object]] = [
            lambda: path.symlink_to(away),
            lambda: os.link(away, path),
            lambda: os.mkfifo(path),
            path.mkdir,
        ]
        for make in makers:
            path.rmdir() if path.is_dir() else path.unlink()
            make()
            assert ("deny", False) == (said(found := rules()), found.kept)

    def test_with_a_key_that_others_may_write(self, project: Path) -> None:
        """Then it is not known who wrote the code."""
        self.kept(project)
        key_path_for(project / ".otel-runtime" / "state.db").chmod(0o620)
        assert not rules().kept

    def test_that_is_no_rule_set(self, project: Path) -> None:
        """Even with the right code: what a later version with this version's number kept is not half understood."""
        path = self.kept(project)
        head = path.read_bytes().split(b"\n")[1]
        kept = Kept(project / ".otel-runtime" / "state.db")
        for body in (
            b"",
            b"null\n",
            b"{}\n{}",
            head,
            head + b"\n",
            head + b"\n{}",
            head + b"\n[1]",
            head + b'\n{"rules": [1]}',
            b"\xff\n\xff",
        ):
            assert kept.write(body)
            assert ("deny", False) == (said(found := rules()), found.kept)


class TestKeeping:
    """Nothing is kept where keeping would let somebody decide who could not before, and nothing needs to be."""

    def left(self, project: Path) -> list[str]:
        return sorted(path.name for path in project.rglob("*-policy*"))

    def test_is_private(self, project: Path) -> None:
        """One file beside the state database, for this user only."""
        rules()
        assert [0o600] == [(project / ".otel-runtime" / name).stat().st_mode & 0o777 for name in self.left(project)]

    def test_can_be_left_out(self, project: Path) -> None:
        """Nothing is read and nothing is left."""
        rules(keep=False)
        assert [] == self.left(project)

    @pytest.mark.parametrize(
        "how",
        [
            lambda project, _: (project / "otel-runtime.yaml").write_text(
                f"policy: policy.yaml\nstate: {project.parent}/elsewhere/state.db\n"
            ),
            lambda _, patch: patch.setenv("OTEL_RUNTIME_POLICY", "policy.yaml"),
            lambda project, patch: (patch.setenv("OTEL_RUNTIME_POLICY", "policy.yaml"), (project / "otel-runtime.yaml").unlink()),
            lambda _, patch: patch.setattr(os, "access", lambda path, mode: False),
        ],
        ids=["state-elsewhere", "policy-by-a-variable", "no-settings-file", "settings-of-somebody-else"],
    )
    def test_not_where_the_policy_is_better_guarded(
        self, project: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[Path, pytest.MonkeyPatch], object]
    ) -> None:
        """Whoever could write what is kept must be able to write the settings anyway."""
        how(project, monkeypatch)
        assert [("deny", False)] * 2 == [(said(found), found.kept) for found in (rules(), rules())]
        assert [] == self.left(project.parent)

    def test_not_with_predicates(self, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Code of the operator's own is part of the policy, and nobody here knows when it changes."""
        (project / "mine.py").write_text("def ask(action, facts):\n    return True\n")
        monkeypatch.syspath_prepend(project)
        (project / "policy.yaml").write_text(DENY.replace("tool: Bash", "tool: Bash, when: mine:ask"))
        assert [("deny", False)] * 2 == [(said(found), found.kept) for found in (rules(), rules())]

    def test_not_where_it_cannot_be_written(self, project: Path) -> None:
        """A folder that cannot be made, or a database whose key is gone, costs time and nothing else."""
        (project / ".otel-runtime").write_text("in the way")
        assert [("deny", False)] * 2 == [(said(found), found.kept) for found in (rules(), rules())]
        (project / ".otel-runtime").unlink()
        (project / ".otel-runtime").mkdir()
        (project / ".otel-runtime" / "state.db").write_bytes(b"x")
        assert [("deny", False)] * 2 == [(said(found), found.kept) for found in (rules(), rules())]
        assert [] == self.left(project)

    def test_a_named_file_is_kept_too(self, project: Path) -> None:
        """`--settings` names the same file in each process."""
        (project / "mine.yaml").write_text("policy: policy.yaml\n")
        assert [False, True] == [rules(given=Path("mine.yaml")).kept for _ in range(2)]
        assert not rules().kept

    def test_pyproject(self, project: Path) -> None:
        """Settings in `pyproject.toml` are settings."""
        (project / "otel-runtime.yaml").unlink()
        (project / "pyproject.toml").write_text('[tool.otel-runtime]\npolicy = "policy.yaml"\nstate = "mine/state.db"\n')
        assert [False, True] == [rules().kept for _ in range(2)]
        assert (project / "mine" / "state.db-policy").is_file()


class TestAtOnce:
    """Hook processes of one project run side by side."""

    def test_writers_and_readers(self, project: Path) -> None:
        """A reader sees one whole body or none, never a mixture."""
        bodies = [bytes([65 + number]) * (4096 * (number + 1)) for number in range(4)]
        state = project / ".otel-runtime" / "state.db"
        load_or_create_key(state)
        stop = threading.Event()

        def write(body: bytes) -> None:
            while not stop.is_set():
                assert Kept(state).write(body)

        writers = [threading.Thread(target=write, args=(body,)) for body in bodies]
        for writer in writers:
            writer.start()
        seen, give_up = {Kept(state).read() for _ in range(300)}, time.monotonic() + 60
        # The writers may not have had their turns.
        while len(seen - {None}) < 2 and time.monotonic() < give_up:
            seen.add(Kept(state).read())
        stop.set()
        for writer in writers:
            writer.join()
        assert seen - {None} <= set(bodies)
        assert len(seen - {None}) > 1
        assert ["state.db-policy", "state.db.key"] == sorted(path.name for path in state.parent.iterdir())

    def test_first_processes(self, project: Path) -> None:
        """Several that find nothing all decide, and leave one sound file and one key."""
        program = (
            "from pathlib import Path; from otel_runtime.integrations.claude_code_rules import rules_for;"
            "from otel_runtime.settings.loading import load_settings; print(rules_for('Bash', load_settings).engine.digest)"
        )
        running = [subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(4)]
        digests = {process.communicate(timeout=150)[0].strip() for process in running}
        assert [0] * 4 == [process.returncode for process in running]
        assert digests == {load_policy([project / "policy.yaml"]).engine.digest}
        assert rules().kept
        assert json.loads((project / ".otel-runtime" / "state.db-policy").read_bytes().split(b"\n")[1])["policy"] == [
            str(project / "policy.yaml")
        ]
