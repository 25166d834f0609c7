from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_runtime.errors import ConfigError
from otel_runtime.policy.decide import scope_of
from otel_runtime.policy.loading import LoadedPolicy, load_policy, load_policy_text
from otel_runtime.policy.packs import resolved
from otel_runtime.policy.places import resolve
from otel_runtime.policy.truth import Tri
from otel_runtime.values.action import Action

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def policy(root: Path, test: str = "{under: 'workspace:data'}", protected: tuple[Path, ...] = ()) -> LoadedPolicy:
    text = f"version: 1\ndefault: deny\nworkspace: {root}\ntools: {{read: {{args: {{path: str}}}}}}\n"
    return load_policy_text(f"{text}rules:\n  - {{id: r, tool: read, args: {{path: {test}}}, decision: allow}}\n", protected=protected)


def asked(loaded: LoadedPolicy, path: str) -> Tri:
    action = Action("tool", "read", {"path": path})
    compiled = loaded.engine.policy
    return compiled.rules[0].evaluate(scope_of(action, compiled.index.plan(action), compiled, None, NOW))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    base = tmp_path / "ROOT"
    (base / "data" / "deep" / "er").mkdir(parents=True)
    (base / "data" / "ok.txt").write_text("x")
    (base / "data.bak").write_text("x")
    (base / "secret.txt").write_text("x")
    (base / "other").mkdir()
    (base / "data" / "out").symlink_to(base / "other")
    (base / "data" / "in").symlink_to(base / "data" / "deep" / "er")
    (base / "data" / "loop").symlink_to("loop")
    (base / "link").symlink_to("data")
    (base / "data" / "proc").symlink_to("/proc/self/cwd")
    return base


class TestUnder:
    @pytest.mark.parametrize(
        "path",
        ["data/ok.txt", "data", "data/", "data//ok.txt", "data/./ok.txt", "data/new/file", "link/ok.txt", "data/in/x", "data/ok.txt/x"],
    )
    def test_inside(self, root: Path, path: str) -> None:
        """What lies below the folder, or will once it is made, is under it; links are followed."""
        assert asked(policy(root), f"{root}/{path}") is True

    def test_second_names(self, root: Path) -> None:
        """A hard link to a file that is named is not provably another file; one to any other file is."""
        os.link(root / "secret.txt", root / "other" / "a")
        os.link(root / "data" / "ok.txt", root / "other" / "b")
        loaded = policy(root, "{under: ['workspace:secret.txt', 'workspace:data']}")
        assert [None, False, True] == [asked(loaded, f"{root}/{path}") for path in ("other/a", "other/b", "data/ok.txt")]

    @pytest.mark.parametrize(
        "path", ["data.bak", "secret.txt", "data/../secret.txt", "data//../secret.txt", "other/x", "", "link/../secret.txt"]
    )
    def test_outside(self, root: Path, path: str) -> None:
        """What lies beside the folder is not under it, however similar its name."""
        assert asked(policy(root), f"{root}/{path}") is False

    @pytest.mark.parametrize(
        "path",
        [
            "data/out/x",
            "data/loop/x",
            "data/proc/x",
            "data/in/../../x",
            "data/new/../ok.txt",
            "data/ok.txt/x/../../ok.txt",
            "DATA/ok.txt",
            "data /ok.txt",
            "data./ok.txt",
            "DATA./ok.txt",
            "data:x/ok.txt",
            "data/a\x7fb",
            "data/\uff0e\uff0e/secret.txt",
            "data/ok.txt\x00.png",
            "data/a\nb",
            "data/\u202etxt",
            "data/$HOME/x",
            "data/${HOME}",
            "data/$(id)",
            "data/$_",
            "data\\..\\x",
            "data/" + "x/" * 600,
            "data/" + "x" * 4096,
            "data/\ud800",
        ],
    )
    def test_not_known(self, root: Path, path: str) -> None:
        """Where another reader could end elsewhere, or where the way is too long, nothing is known."""
        assert asked(policy(root), f"{root}/{path}") is None

    @pytest.mark.parametrize(
        "path", ["", "~/data/x", "file:///etc/passwd", "C:/x", "\\\\server\\share", "/proc/self/cwd/data/ok.txt", "$HOME/x", "%HOME%/x"]
    )
    def test_no_path(self, root: Path, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
        """What is no plain path of this file system is unknown."""
        monkeypatch.chdir(root / "data")
        assert asked(policy(root), path) is None

    def test_relative(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A relative path is read from the current directory, as `open` reads it."""
        loaded = policy(root)
        monkeypatch.chdir(root / "data")
        assert [True, False] == [asked(loaded, path) for path in ("ok.txt", "../secret.txt")]

    def test_nowhere(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """In a folder that is gone it is unknown what a relative path means."""
        loaded = policy(root)
        gone = root / "gone"
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        assert asked(loaded, "data/ok.txt") is None

    def test_the_git_file_of_a_worktree(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where `.git` is a file, as in worktrees and submodules, the cases of the pack for coding agents hold all the same."""
        (tmp_path / ".git").write_text("gitdir: /elsewhere/.git/worktrees/mine\n")
        monkeypatch.chdir(tmp_path)
        assert load_policy([resolved(Path("pack:coding-agent"))]).engine.policy.rules

    def test_replaced_root(self, root: Path) -> None:
        """A root that is replaced by a link after loading opens nothing else."""
        loaded = policy(root)
        (root / "data").rename(root / "gone")
        (root / "data").symlink_to("/etc")
        assert asked(loaded, f"{root}/data/passwd") is not True

    def test_protected(self, root: Path) -> None:
        """Protected files, their siblings of the store, other names of the same file and the folder they are in are never under anything."""
        (root / "data" / "rt").mkdir()
        state = root / "data" / "rt" / "state.db"
        state.write_text("x")
        os.link(state, root / "data" / "hard")
        loaded = policy(root, protected=(state,))
        known = [
            asked(loaded, f"{root}/data/{path}") for path in ("rt/state.db", "rt/state.db-wal", "rt/State.DB", "hard", "rt", "ok.txt", "")
        ]
        assert [None, None, None, None, None, True, True] == known

    def test_policy_protects_itself(self, root: Path) -> None:
        """The directory a policy is loaded from is protected, files added to it included."""
        rules = root / "data" / "policy"
        rules.mkdir()
        text = f"version: 1\ndefault: allow\nrules:\n  - {{id: r, tool: read, args: {{path: {{under: '{root}/data'}}}}, decision: allow}}\n"
        (rules / "a.yaml").write_text(text)
        loaded = load_policy([rules])
        assert [None, None, True] == [asked(loaded, f"{root}/data/{path}") for path in ("policy/a.yaml", "policy/b.yaml", "ok.txt")]

    @pytest.mark.parametrize("operand", ["data", "'../x'", "'workspace:/etc'", "'workspace:a/../..'", "'/srv/*'", "[]", "5"])
    def test_refused_operands(self, root: Path, operand: str) -> None:
        """A folder that is not anchored is refused when the policy is loaded."""
        with pytest.raises(ConfigError, match="P016"):
            policy(root, f"{{under: {operand}}}")

    def test_workspace_is_needed(self) -> None:
        """`workspace:` without a workspace is refused, at its place."""
        text = "version: 1\ndefault: deny\nrules:\n  - {id: r, tool: read, args: {path: {under: 'workspace:x'}}, decision: allow}\n"
        with pytest.raises(ConfigError, match=r"policy:4:.*P023"):
            load_policy_text(text)


class TestFileName:
    def test_names(self, root: Path) -> None:
        """Names and globs fit the whole last part."""
        loaded = policy(root, "{file_name: ['.env', '*.pem', 'id_*']}")
        plain = [asked(loaded, f"{root}/data/{name}") for name in (".env", "x.y.pem", ".pem", "id_rsa", ".env.example", "env", "pem")]
        assert [True, True, True, True, False, False, False] == plain

    @pytest.mark.parametrize("name", [".ENV", ".env.", ".env ", ".env:stream", "\uff0eenv", "X.PEM"])
    def test_only_after_folding(self, root: Path, name: str) -> None:
        """What fits only where case, trailing dots, spaces or streams do not count is unknown."""
        assert asked(policy(root, "{file_name: ['.env', '*.pem']}"), f"{root}/data/{name}") is None

    def test_links(self, root: Path) -> None:
        """A link's name and the name of what it leads to must agree."""
        (root / "data" / "harmless.txt").symlink_to(".env")
        loaded = policy(root, "{file_name: .env}")
        assert [None, False] == [asked(loaded, f"{root}/data/{name}") for name in ("harmless.txt", "ok.txt")]

    @pytest.mark.parametrize("path", ["data/loop/x", "data/proc/x", "data/$HOME", "data/new/../x"])
    def test_not_known(self, root: Path, path: str) -> None:
        """Where it is not known what a path leads to, neither is its name."""
        assert asked(policy(root, "{file_name: .env}"), f"{root}/{path}") is None

    @pytest.mark.parametrize("operand", ["a/b", "'*'", "..", "'a\\b'"])
    def test_refused_operands(self, root: Path, operand: str) -> None:
        """A folder or a glob of everything is no file name."""
        with pytest.raises(ConfigError, match="P016"):
            policy(root, f"{{file_name: {operand}}}")


PARTS = st.sampled_from(
    ["data", "in", "out", "loop", "proc", "..", ".", "", "deep", "new", "ok.txt", "DATA", "data.", "\uff0e\uff0e", "other", "x\x00"]
)


class TestAnyPath:
    @settings(max_examples=300, deadline=None)
    @given(parts=st.lists(PARTS, max_size=8))
    @example(parts=["data", "in", "..", "..", "x"])
    def test_agrees_with_the_kernel(self, parts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
        """What is said to be inside is inside for the kernel and for a program that tidies first; nothing raises."""
        base = _tree(tmp_path_factory)
        path = f"{base}/{'/'.join(parts)}"
        if asked(policy(base), path) is True:
            data = os.path.realpath(base / "data")
            for real in (os.path.realpath(path), os.path.realpath(os.path.normpath(path))):
                assert os.path.commonpath([data, real]) == data

    @settings(max_examples=200, deadline=None)
    @given(st.text(max_size=40))
    def test_any_text(self, text: str) -> None:
        """No text raises."""
        asked(policy(Path("/srv/never")), text)

    def test_many_paths_are_bounded(self, tmp_path: Path) -> None:
        """Ten thousand long paths in one call are not all looked up: the rest is unknown."""
        text = (
            f"version: 1\ndefault: deny\nrules:\n  - {{id: r, tool: t, args: {{p: {{every: {{under: '{tmp_path}'}}}}}}, decision: allow}}\n"
        )
        loaded = load_policy_text(text)
        few, many = ([f"{tmp_path}/{'d/' * 20}{at}" for at in range(number)] for number in (50, 10_000))
        verdicts = [loaded.engine.decide(Action("tool", "t", {"p": paths}), None, NOW).decision.value for paths in (few, many)]
        assert ["allow", "deny"] == verdicts

    def test_chains_of_links_are_bounded(self, tmp_path: Path) -> None:
        """Links of links end in not knowing."""
        for at in range(60):
            (tmp_path / f"l{at}").symlink_to(f"l{at + 1}")
        assert [None, None] == [resolve(f"{tmp_path}/l0")[0], resolve(f"{tmp_path}/l0/x")[0]]


_TREES: list[Path] = []


def _tree(factory: pytest.TempPathFactory) -> Path:
    if not _TREES:
        base = factory.mktemp("tree")
        (base / "data" / "deep" / "er").mkdir(parents=True)
        (base / "data" / "ok.txt").write_text("x")
        (base / "other").mkdir()
        (base / "data" / "out").symlink_to(base / "other")
        (base / "data" / "in").symlink_to(base / "data" / "deep" / "er")
        (base / "data" / "loop").symlink_to("loop")
        (base / "data" / "proc").symlink_to("/proc/self/cwd")
        _TREES.append(base)
    return _TREES[0]
