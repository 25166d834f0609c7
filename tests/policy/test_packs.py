"""The packs we ship: sound, covered, documented with a number that is true, and to be had from an installed package."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from otel_runtime.cli.main import main
from otel_runtime.cli.policy_recorded import recorded
from otel_runtime.cli.policy_traces import spans_of
from otel_runtime.cli.trace_source import Window
from otel_runtime.errors import ConfigError
from otel_runtime.policy.loading import load_policy
from otel_runtime.policy.packs import pack, packs
from otel_runtime.policy.replay import guarded, replay
from otel_runtime.policy.replay_report import Report, compared
from otel_runtime.settings.loading import load_settings

ROOT = Path(__file__).parents[2]
SHIPPED = sorted(path.stem for path in (ROOT / "policy").glob("*.yaml"))
MEASURED = sorted(path.name.removesuffix(".jsonl.gz") for path in (ROOT / "policy" / "workloads").glob("*.jsonl.gz"))
PAGE = (ROOT / "docs" / "policy-packs.md").read_text(encoding="utf-8")
WINDOW = Window(datetime.now(UTC), timedelta(days=1))


@pytest.fixture(autouse=True)
def somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder of its own is the workspace."""
    monkeypatch.chdir(tmp_path)


def section(name: str) -> str:
    return re.split(r"^## ", PAGE.partition(f"\n## `{name}.yaml`")[2], maxsplit=1, flags=re.MULTILINE)[0]


def measured(name: str) -> Report:
    """The pack on its own workload, recorded with every call allowed."""
    calls, seen = recorded(spans_of([str(ROOT / "policy" / "workloads" / f"{name}.jsonl.gz")], WINDOW, {}))
    engine = load_policy([Path(f"pack:{name}")]).engine
    return compared(replay(guarded(calls, [engine]), seen, engine, {}, all_words=True), None)


class TestPacks:
    @pytest.mark.parametrize("name", SHIPPED)
    def test_loads_without_a_warning(self, name: str) -> None:
        """A shipped pack has no fault and no doubt in it."""
        assert () == load_policy([ROOT / "policy" / f"{name}.yaml"]).warnings

    @pytest.mark.parametrize("name", SHIPPED)
    def test_covered(self, name: str) -> None:
        """Every rule is seen both to apply and not to."""
        assert [] == [cover for cover in load_policy([ROOT / "policy" / f"{name}.yaml"]).coverage if not cover.whole]

    @pytest.mark.parametrize("name", MEASURED)
    def test_documented(self, name: str) -> None:
        """Each says what it asks and stops, what to look out for, and what was measured."""
        text = section(name)
        assert [] == [word for word in (r"\b[Aa]sks\b", r"\b[Ss]tops\b", "- Look out", "- Measured") if not re.search(word, text)]

    def test_nothing_else_is_documented(self) -> None:
        """No section is about a pack that is not there."""
        assert set(SHIPPED) == set(re.findall(r"^## `([a-z-]+)\.yaml`", PAGE, re.MULTILINE))


class TestWorkloads:
    def test_are_there(self) -> None:
        """A workload for each of the five kinds of agents."""
        assert {"careful-default", "coding-agent", "data-agent", "mcp-client", "support-agent"} <= set(MEASURED)

    @pytest.mark.parametrize("name", MEASURED)
    def test_the_page_tells_the_truth(self, name: str) -> None:
        """The numbers on the page are those of a replay."""
        report = measured(name)
        assert 0 == report.unreplayable, report.gaps
        stated = re.search(r"Measured: (\d+) calls, ([\d.]+) approvals and ([\d.]+) denials per 100\.", section(name))
        assert stated is not None
        denied = 100 * report.count("denied") / report.calls
        assert (str(report.calls), f"{report.after.per_100:.1f}", f"{denied:.1f}") == stated.groups()


class TestPackNames:
    def test_load(self) -> None:
        """`pack:NAME` is a policy wherever one is named."""
        loaded = load_policy([Path("pack:careful-default")])
        assert ("careful-default", (str(pack("careful-default").path),)) == (loaded.name, loaded.files)

    def test_unknown(self) -> None:
        """A pack that is not there is a fault that names the nearest one."""
        with pytest.raises(ConfigError, match=r"no policy pack `carefull-default`; did you mean `careful-default`\?"):
            load_policy([Path("pack:carefull-default")])

    def test_every_file(self) -> None:
        """Every shipped file is a pack, and says in a sentence what it is for."""
        assert SHIPPED == [one.name for one in packs()]
        assert all(20 < len(one.about) < 300 for one in packs())

    def test_setting(self, tmp_path: Path) -> None:
        """A settings file names it without a path, and other paths stay relative to that file."""
        (tmp_path / "otel-runtime.yaml").write_text("policy: [pack:careful-default, rules/]\n")
        assert (Path("pack:careful-default"), tmp_path / "rules") == load_settings(tmp_path / "otel-runtime.yaml").policy

    @pytest.mark.parametrize(
        ("text", "paths"),
        [
            ("pack:careful-default", ["pack:careful-default"]),
            (f"pack:mcp-client{os.pathsep}/srv/rules", ["pack:mcp-client", "/srv/rules"]),
            (f"/srv/pack{os.pathsep}pack:mcp-client", ["/srv/pack", "pack:mcp-client"]),
        ],
    )
    def test_variable(self, text: str, paths: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        """In the variable, where the same sign joins paths, it is one word."""
        monkeypatch.setenv("OTEL_RUNTIME_POLICY", text)
        (tmp_path / ".git").mkdir()
        assert [Path(path) for path in paths] == list(load_settings().policy)


class TestPackCommand:
    def test_list(self, capsys: pytest.CaptureFixture[str]) -> None:
        """Every pack is listed with its sentence, for people and as data."""
        assert 0 == main(["policy", "pack", "list"])
        assert [f"pack:{name}" for name in SHIPPED] == [
            line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("pack:")
        ]
        assert 0 == main(["policy", "pack", "list", "--json"])
        assert SHIPPED == [one["name"] for one in json.loads(capsys.readouterr().out)]

    def test_show(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A pack is printed as it is."""
        assert 0 == main(["policy", "pack", "show", "mcp-client"])
        assert capsys.readouterr().out == (ROOT / "policy" / "mcp-client.yaml").read_text(encoding="utf-8")

    def test_copy(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        """A copy can be used at once, has its schema beside it, and is not written over."""
        assert 0 == main(["policy", "pack", "copy", "pack:coding-agent", "rules"])
        assert 0 == main(["policy", "check", "rules", "--strict"])
        assert (tmp_path / "rules" / "schema.json").is_file()
        (tmp_path / "rules" / "coding-agent.yaml").write_text("mine")
        capsys.readouterr()
        assert 2 == main(["policy", "pack", "copy", "coding-agent", "rules"])
        assert "--force" in capsys.readouterr().err
        assert "mine" == (tmp_path / "rules" / "coding-agent.yaml").read_text()
        assert 0 == main(["policy", "pack", "copy", "coding-agent", "rules", "--force"])

    def test_unknown(self, capsys: pytest.CaptureFixture[str]) -> None:
        """A name that is none is exit code 2, with what there is."""
        assert 2 == main(["policy", "pack", "show", "zzz"])
        assert "there are `" in capsys.readouterr().err
