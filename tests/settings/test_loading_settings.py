"""Settings: argument > environment > file > default; a bad value is refused with its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otel_runtime.errors import ConfigError
from otel_runtime.settings.durations import parse_duration
from otel_runtime.settings.loading import find_settings, load_settings
from otel_runtime.settings.model import Settings


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory that is the top of a repository."""
    (tmp_path / ".git").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestOrder:
    """Which source wins."""

    def test_defaults(self, here: Path) -> None:
        """With nothing said, the defaults hold and the state lies under the working directory."""
        assert load_settings() == Settings(state=here / ".otel-runtime/state.db")

    def test_argument_over_environment_over_file(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each setting comes from the strongest source that names it."""
        (here / "otel-runtime.yaml").write_text("name: from-file\nwait_at_most: 5s\notlp: 'off'\n")
        monkeypatch.setenv("OTEL_RUNTIME_NAME", "from-env")
        monkeypatch.setenv("OTEL_RUNTIME_WAIT_AT_MOST", "7s")
        found = find_settings(None, name="from-argument")
        assert (found.settings.name, found.settings.wait_at_most, found.settings.otlp) == ("from-argument", 7.0, "off")
        assert found.origins == {"name": "argument", "wait_at_most": "OTEL_RUNTIME_WAIT_AT_MOST", "otlp": str(here / "otel-runtime.yaml")}

    def test_the_file_is_searched_upwards_to_the_repository(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program started in a subfolder uses the project's settings."""
        (here / "otel-runtime.yaml").write_text("name: top\n")
        (here / "a/b").mkdir(parents=True)
        monkeypatch.chdir(here / "a/b")
        assert load_settings().name == "top"

    def test_pyproject(self, here: Path) -> None:
        """[tool.otel-runtime] serves as well."""
        (here / "pyproject.toml").write_text('[tool.otel-runtime]\nname = "toml"\npeople = {alice = {roles = ["finance"]}}\n')
        settings = load_settings()
        assert (settings.name, settings.people["alice"].roles) == ("toml", ("finance",))

    def test_paths_are_relative_to_what_names_them(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file's paths start at the file, the program's at the working directory."""
        (here / "conf").mkdir()
        (here / "conf/otel-runtime.yaml").write_text("policy: [rules.yaml]\ntrace_file: t.json\n")
        settings = load_settings(Path("conf/otel-runtime.yaml"), state="s.db")
        assert (settings.policy, settings.trace_file, settings.state) == ((here / "conf/rules.yaml",), here / "conf/t.json", here / "s.db")

    def test_the_default_state_lies_beside_the_file(self, here: Path) -> None:
        """Every program of a project shares one database."""
        (here / "conf").mkdir()
        (here / "conf/otel-runtime.yaml").write_text("name: x\n")
        assert load_settings(Path("conf/otel-runtime.yaml")).state == here / "conf/.otel-runtime/state.db"

    def test_several_policies_in_a_variable(self, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """They are separated as paths are on this system."""
        monkeypatch.setenv("OTEL_RUNTIME_POLICY", "a.yaml:b")
        assert load_settings().policy == (here / "a.yaml", here / "b")


class TestRefusal:
    """Nothing wrong is ignored."""

    @pytest.mark.parametrize(
        ("text", "place", "words"),
        [
            ("name: x\nwait_atmost: 5s\n", "otel-runtime.yaml:2:1", "did you mean `wait_at_most`"),
            ("wait_at_most: soon\n", "otel-runtime.yaml:1:15", "expected a duration"),
            ("otlp: perhaps\n", "otel-runtime.yaml:1:7", "auto"),
            ("console: yes\n", "otel-runtime.yaml:1:10", "yes"),
            ("people:\n  alice: {role: [x]}\n", "otel-runtime.yaml:2:11", "did you mean `roles`"),
            ("- a\n", "otel-runtime.yaml:1:1", "mapping"),
            ("name: [\n", "otel-runtime.yaml", "error[Y"),
        ],
    )
    def test_a_file_with_the_place_of_the_mistake(self, here: Path, text: str, place: str, words: str) -> None:
        """file:line:column, what was expected, and the mend."""
        (here / "otel-runtime.yaml").write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_settings()
        assert place in str(caught.value)
        assert words in str(caught.value)

    @pytest.mark.parametrize(
        ("variable", "value", "words"),
        [
            ("OTEL_RUNTIME_POLCY", "x", "did you mean `OTEL_RUNTIME_POLICY`"),
            ("OTEL_RUNTIME_CONSOLE", "maybe", "expected `true` or `false`, got `maybe`"),
            ("OTEL_RUNTIME_WAIT_AT_MOST", "60", "with its unit"),
            ("OTEL_RUNTIME_PEOPLE", "{", "expected JSON"),
            ("OTEL_RUNTIME_OTLP", "x", "otlp"),
        ],
    )
    def test_a_variable_by_its_name(self, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, words: str) -> None:
        """The fault names the variable."""
        monkeypatch.setenv(variable, value)
        with pytest.raises(ConfigError) as caught:
            load_settings()
        assert caught.value.faults[0].source == variable
        assert words in str(caught.value)

    @pytest.mark.parametrize("arguments", [{"wait_at_most": -1}, {"wait_at_most": True}, {"nane": "x"}, {"name": ""}, {"otlp": "x"}])
    def test_an_argument(self, arguments: dict[str, Any]) -> None:
        """A wrong argument is refused like every other source."""
        with pytest.raises(ConfigError, match="argument of configure"):
            load_settings(None, **arguments)

    def test_a_missing_file(self) -> None:
        """A settings file that was named must exist."""
        with pytest.raises(ConfigError, match="cannot read the settings file: no such file"):
            load_settings(Path("nowhere.yaml"))

    def test_pyproject_with_its_line(self, here: Path) -> None:
        """TOML mistakes carry the line of their key."""
        (here / "pyproject.toml").write_text('[project]\nname = "x"\n[tool.otel-runtime]\notlp = "x"\n')
        with pytest.raises(ConfigError) as caught:
            load_settings()
        assert caught.value.faults[0].source == f"{here / 'pyproject.toml'}:4"


class TestDuration:
    """Durations as people write them."""

    @pytest.mark.parametrize(
        ("text", "seconds"), [("10s", 10), ("5min", 300), ("30m", 1800), ("4h", 14400), ("1d", 86400), ("250ms", 0.25), (3, 3), (1.5, 1.5)]
    )
    def test_is_seconds(self, text: object, seconds: float) -> None:
        """Every unit of the policy page."""
        assert parse_duration(text) == seconds

    @pytest.mark.parametrize("wrong", ["", "10", "s", "-5s", "5 s", "1h30m", True, None, float("nan"), float("inf"), -1, "1e5s", "٣s"])
    def test_other_things_are_refused(self, wrong: object) -> None:
        """No unit, no number, no duration."""
        with pytest.raises(ValueError, match="expected a duration"):
            parse_duration(wrong)
