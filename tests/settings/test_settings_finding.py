"""Which settings file is in force and where its state lies, told without the reader of settings."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from otel_runtime.settings.finding import settings_file, state_of
from otel_runtime.settings.loading import load_settings

TEXTS = {
    "nothing": "",
    "nothing-said": "policy: policy/\n",
    "said": "policy: policy/\nstate: data/state.db\n",
    "absolute": "state: /var/lib/agent/state.db\n",
    "quoted": '"state": "a b/state.db"\n',
    "escaped": '"\\x73tate": hidden.db\n',
    "in-braces": "{policy: x.yaml, state: braces.db}\n",
    "in-a-comment": "# state: old.db\npolicy: x.yaml\n",
    "in-another-key": "people:\n  state: {roles: [a]}\n",
    "across-lines": 'name: "one\n  state: two.db\n  three"\n',
    "in-a-value": "name: state\n",
}
TABLES = {
    "nothing": "[tool.otel-runtime]\n",
    "said": '[tool.otel-runtime]\nstate = "data/state.db"\n',
    "dotted": 'tool.otel-runtime.state = "dotted.db"\n[tool.otel-runtime.people]\n',
    "of-another-tool": '[tool.other]\nstate = "x.db"\n[tool.otel-runtime]\n',
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestState:
    """The state database, where a forged file would be looked for if it were guessed."""

    @pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
    def test_is_the_one_of_the_settings(self, here: Path, text: str) -> None:
        """However it is written, the answer is that of the whole reading."""
        file = here / "otel-runtime.yaml"
        file.write_text(text)
        assert load_settings().state == state_of(file, text, {}, here)

    @pytest.mark.parametrize("text", TABLES.values(), ids=TABLES)
    def test_of_a_pyproject(self, here: Path, text: str) -> None:
        """The same for TOML."""
        file = here / "pyproject.toml"
        file.write_text(text)
        assert load_settings(file).state == state_of(file, text, {}, here)

    def test_of_the_environment(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable is above the file; an empty one is none."""
        file = here / "otel-runtime.yaml"
        file.write_text(TEXTS["said"])
        for value in ("env.db", ""):
            monkeypatch.setenv("OTEL_RUNTIME_STATE", value)
            assert load_settings().state == state_of(file, TEXTS["said"], {"OTEL_RUNTIME_STATE": value}, here)

    @pytest.mark.parametrize("text", ["state: [1\n", "state: 7\n", "state: ''\n", "- state\n", "state:\n"])
    def test_is_not_told_where_it_cannot_be(self, here: Path, text: str) -> None:
        """A file that the reader of settings refuses, or that names nothing, leads nowhere."""
        assert state_of(here / "otel-runtime.yaml", text, {}, here) is None

    def test_of_a_broken_pyproject(self, here: Path) -> None:
        """The same for TOML."""
        for text in ("[tool.otel-runtime\n", "tool = 1\n", "[tool.otel-runtime]\nstate = 7\n"):
            assert state_of(here / "pyproject.toml", text, {}, here) is None


class TestFile:
    """The file in force."""

    def test_order(self, here: Path) -> None:
        """A named one, then the variable's, then the nearest above, up to the top of the repository."""
        inner = here / "a" / "b"
        inner.mkdir(parents=True)
        assert settings_file(None, {}, inner) is None
        (here / "otel-runtime.yaml").write_text("")
        assert here / "otel-runtime.yaml" == settings_file(None, {}, inner)
        (here / "a" / "pyproject.toml").write_text("# [tool.otel-runtime] is in the file above\n[tool.otel-runtime-x]\n")
        assert here / "otel-runtime.yaml" == settings_file(None, {}, inner)
        (here / "a" / "pyproject.toml").write_text("[tool.otel-runtime]\n")
        assert here / "a" / "pyproject.toml" == settings_file(None, {}, inner)
        assert Path("v.yaml") == settings_file(None, {"OTEL_RUNTIME_CONFIG": "v.yaml"}, inner)
        assert Path("g.yaml") == settings_file(Path("g.yaml"), {"OTEL_RUNTIME_CONFIG": "v.yaml"}, inner)

    def test_costs_no_reader(self) -> None:
        """Finding loads neither YAML nor TOML nor pydantic."""
        program = "import sys, otel_runtime.settings.finding; print(*sys.modules)"
        loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
        assert set() == {"yaml", "tomllib", "pydantic"} & set(loaded)
