"""Every shipped configuration is accepted by the program it is for, and the pieces fit each other."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from otel_runtime.settings.model import Settings

CONFIG = Path(__file__).parents[2] / "collector-config"
BUILD = CONFIG / "build-backends.sh"
Program = Callable[[str], Path]


def run(*command: str | Path, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [str(word) for word in command],
        cwd=CONFIG,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=150,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.backends
class TestAccepted:
    """By the real programs."""

    @pytest.mark.parametrize("name", ["agent", "gateway"])
    def test_collector(self, name: str, program: Program) -> None:
        """`otelcol validate` accepts it with its defaults."""
        assert (0, "") == run(program("otelcol"), "validate", "--config", f"{name}.yaml")

    @pytest.mark.parametrize("gateways", [None, "[gateway-1:4317,gateway-2:4317]"])
    def test_scale_out(self, gateways: str | None, program: Program) -> None:
        """The same for the Collector in front, with its default gateways and with named ones."""
        given = {} if gateways is None else {"GATEWAYS": gateways}
        assert (0, "") == run(program("otelcol-scale-out"), "validate", "--config", "scale-out.yaml", **given)

    @pytest.mark.parametrize("store", ["disk", "memory"])
    def test_jaeger(self, store: str, program: Program) -> None:
        """`jaeger validate` accepts both stores."""
        assert 0 == run(program("jaeger"), "validate", "--config", "jaeger.yaml", JAEGER_STORE=store)[0]

    def test_prometheus(self, program: Program) -> None:
        """promtool accepts the configuration, and every alert fires and stays silent when it should."""
        code, said = run(program("promtool"), "check", "config", "prometheus.yaml")
        assert 0 == code, said
        code, said = run(program("promtool"), "test", "rules", "alerts-test.yaml")
        assert 0 == code, said

    def test_tempo(self, program: Program) -> None:
        """Tempo accepts its configuration."""
        code, said = run(program("tempo"), "-config.file=tempo.yaml", "-config.expand-env=true", "-config.verify=true")
        assert 0 == code, said

    def test_a_wrong_one_is_refused(self, program: Program, tmp_path: Path) -> None:
        """The instrument: a component's old name is not accepted."""
        (tmp_path / "bad.yaml").write_text((CONFIG / "agent.yaml").read_text().replace("block_on_overflow", "blok_on_overflow"))
        assert 1 == run(program("otelcol"), "validate", "--config", tmp_path / "bad.yaml")[0]


class TestAlerts:
    def test_each_is_tested(self) -> None:
        """No alert without a case in alerts-test.yaml that makes it fire."""
        alerts = {rule["alert"] for group in read("alerts.yaml")["groups"] for rule in group["rules"]}
        cases = [case for test in read("alerts-test.yaml")["tests"] for case in test["alert_rule_test"]]
        assert alerts == {case["alertname"] for case in cases if case["exp_alerts"]}


class TestCompose:
    """compose.yaml, as far as it can be judged without a container engine."""

    def test_ports_are_loopback(self) -> None:
        """Nothing is published to the network."""
        published = [str(port) for service in services().values() for port in service.get("ports", [])]
        assert [] == [port for port in published if not port.startswith("127.0.0.1:")]
        assert len(published) == len({port.split(":")[1] for port in published}), "two services on one port"

    def test_images_are_pinned(self) -> None:
        """Every image names a full version."""
        assert [] == [service["image"] for service in services().values() if not re.search(r":v?\d+\.\d+\.\d+$", service["image"])]

    def test_jaeger_alone_by_default(self) -> None:
        """Only Jaeger has no profile, and nothing without a profile needs something with one."""
        assert ["jaeger"] == [name for name, service in services().items() if not service.get("profiles")]

    def test_files_are_there(self) -> None:
        """Every mounted file exists, and lies where its program is told to look."""
        for service in services().values():
            mounts = [mount.split(":")[:2] for mount in service.get("volumes", []) if mount.startswith("./")]
            assert [] == [source for source, _ in mounts if not (CONFIG / source).exists()]
            told = " ".join(service.get("command", []))
            assert [] == [path for path in re.findall(r"=(/etc/\S+)", told) if path not in [target for _, target in mounts]]

    def test_versions_are_those_that_are_built(self) -> None:
        """The Collector of the containers is the one that the tests run."""
        manifest = (CONFIG / "ocb-manifest.yaml").read_text()
        version = read("ocb-manifest.yaml")["dist"]["version"]
        others = [line for line in re.findall(r"collector-contrib/(\S+ v\S+)", manifest) if not line.endswith(f" v{version}")]
        assert ["receiver/otlpjsonfilereceiver v0.158.0"] == others
        assert {f"otel/opentelemetry-collector-contrib:{version}"} == {
            service["image"] for service in services().values() if "collector" in service["image"]
        }


class TestGrafana:
    """Provisioning and dashboards; every PromQL runs in test_gateway.py."""

    def test_sources_are_provisioned(self) -> None:
        """Panels, exemplars and links name data sources that exist, at services that exist."""
        sources = read("grafana/provisioning/datasources/datasources.yaml")["datasources"]
        known = {source["uid"] for source in sources}
        used = set(re.findall(r'"uid": "(\w+)"', (CONFIG / "grafana/dashboards/agents.json").read_text()))
        assert set() == used - known
        linked = set(re.findall(r"datasourceUid: (\w+)", (CONFIG / "grafana/provisioning/datasources/datasources.yaml").read_text()))
        assert set() == linked - known
        assert set() == {re.split(r"[/:]+", source["url"])[1] for source in sources} - set(services())

    def test_metrics_exist(self) -> None:
        """Every metric of ours in dashboards and alerts is one that we emit, under its Prometheus name."""
        from otel_runtime.telemetry.conventions import METRICS

        emitted = {prometheus_name(name, metric.kind, metric.unit) for name, metric in METRICS.items()}
        text = (CONFIG / "grafana/dashboards/agents.json").read_text() + (CONFIG / "alerts.yaml").read_text()
        text += (CONFIG / "grafana/provisioning/datasources/datasources.yaml").read_text()
        named = set(re.findall(r"\b((?:otel_runtime|gen_ai)_[a-z_]+?)(?:_bucket|_count)?\{", text))
        assert set() == named - emitted
        assert len(named) > 10

    def test_panels_do_not_overlap(self) -> None:
        """Each panel has a place of its own and an id of its own."""
        panels = json.loads((CONFIG / "grafana/dashboards/agents.json").read_text())["panels"]
        cells = [cell for panel in panels for cell in places(panel["gridPos"])]
        assert (len(cells), len(panels)) == (len(set(cells)), len({panel["id"] for panel in panels}))


class TestBuild:
    """build-backends.sh, without building."""

    def test_is_a_sound_script(self) -> None:
        """bash reads it to its end."""
        assert (0, "") == run("bash", "-n", BUILD)

    @pytest.mark.parametrize(
        ("go", "said"),
        [
            (None, "expected Go 1.26 or newer, found none; install it"),
            ("go1.24.4", "expected Go 1.26 or newer, got 1.24.4"),
            ("go1.9", "expected Go 1.26 or newer, got 1.9"),
        ],
    )
    def test_go_missing_or_too_old(self, go: str | None, said: str, tmp_path: Path) -> None:
        """One clear line, exit code 2, and nothing is made."""
        tools = tmp_path / "bin"
        tools.mkdir()
        for name in ("bash", "dirname", "sort", "head", "env"):
            (tools / name).symlink_to(next(place / name for place in map(Path, ("/bin", "/usr/bin")) if (place / name).exists()))
        if go is not None:
            (tools / "go").write_text(f"#!/bin/bash\necho {go}\n")
            (tools / "go").chmod(0o755)
        code, printed = run(tools / "bash", BUILD, PATH=str(tools), OTELRT_BACKENDS=str(tmp_path / "cache"))
        assert (2, True, False) == (code, said in printed, (tmp_path / "cache").exists()), printed

    @pytest.mark.parametrize("script", ["build-backends.sh", "demo-jaeger.sh"])
    def test_variables_are_no_settings(self, script: str, config: Path) -> None:
        """A variable of a script may be exported for good: every program that is configured would refuse one that looks like a setting."""
        named = re.findall(r"\$\{?(OTEL_RUNTIME_\w+)", (config / script).read_text())
        assert [] == [name for name in named if name.removeprefix("OTEL_RUNTIME_").lower() not in Settings.model_fields]

    def test_unknown_part(self, tmp_path: Path) -> None:
        """A wrong word is said before anything is built."""
        code, printed = run("bash", BUILD, "jeager", OTELRT_BACKENDS=str(tmp_path / "cache"))
        assert (2, True) == (code, "unknown part `jeager`; expected jaeger, collector" in printed)

    @pytest.mark.backends
    def test_second_run_builds_nothing(self, program: Program) -> None:
        """What is there is left alone."""
        program("jaeger"), program("otelcol"), program("promtool")
        code, printed = run("bash", BUILD, "jaeger", "collector", "prometheus")
        if code == 2:
            pytest.skip(printed)
        assert (0, 3, 0) == (code, printed.count("is there"), printed.count("compiling")), printed


def read(name: str) -> Any:
    return yaml.safe_load((CONFIG / name).read_text())


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = read("compose.yaml")["services"]
    return found


def places(grid: dict[str, int]) -> Iterator[tuple[int, int]]:
    yield from ((x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"]))


def prometheus_name(name: str, kind: str, unit: str) -> str:
    """As the Collector's exporter writes it: https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/."""
    suffix = "_seconds" if unit == "s" else "_ratio" if unit == "1" and kind in ("gauge", "peak") else ""
    plain = name.replace(".", "_") + suffix
    return plain + ("_total" if kind in ("counter", "observable") else "")
