"""What `doctor` hears from a collector before any span is sent."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

from otel_runtime.cli.main import main
from otel_runtime.telemetry.otlp import Collector
from otel_runtime.telemetry.otlp_probe import ask_collector

ADDRESS = "takes no spans at this address (HTTP 404); `/v1/traces` is added to OTEL_EXPORTER_OTLP_ENDPOINT"


class TestAskCollector:
    """Against a receiver that answers as it is told."""

    @pytest.mark.parametrize(
        ("mode", "takes", "said"),
        [
            ("ok", True, "takes spans"),
            ("half-answer", True, "takes spans"),
            ("401", False, "refuses the credential (HTTP 401); correct OTEL_EXPORTER_OTLP_HEADERS"),
            ("403", False, "refuses the credential (HTTP 403)"),
            ("404", False, ADDRESS),
            ("413", False, "refuses an export without spans (HTTP 413)"),
            ("302", False, "the collector redirects (HTTP 302)"),
            ("page", False, "a web page answers there and no collector"),
            ("close", False, "no answer"),
        ],
    )
    def test_every_answer_in_words(
        self, faulty: Callable[..., Any], otlp_to: Callable[..., None], mode: str, takes: bool, said: str
    ) -> None:
        """Whether it would take spans, and what to mend where it would not; no span is made for it."""
        receiver = faulty(mode)
        otlp_to(receiver.url, timeout_s=0.5 if mode == "close" else 25)
        reply = ask_collector(os.environ, timeout_s=30)
        assert takes is reply.takes
        assert reply.said.startswith(said)
        assert not receiver.names

    def test_an_answer_that_never_comes(self, faulty: Callable[..., Any], otlp_to: Callable[..., None]) -> None:
        """The wait has an end."""
        otlp_to(faulty("hang").url)
        reply = ask_collector(os.environ, timeout_s=0.1)
        assert not reply.takes
        assert reply.said.startswith("no answer")

    def test_a_server_that_speaks_no_grpc(self, faulty: Callable[..., Any], otlp_to: Callable[..., None]) -> None:
        """The protocol is the one that is configured."""
        otlp_to(faulty("ok").url, timeout_s=0.5, OTEL_EXPORTER_OTLP_PROTOCOL="grpc")
        reply = ask_collector(os.environ, timeout_s=30)
        assert not reply.takes
        assert "UNAVAILABLE" in reply.said

    def test_a_bad_variable(self, otlp_to: Callable[..., None]) -> None:
        """What the exporter cannot be built from is told, not raised."""
        otlp_to("http://127.0.0.1:9", OTEL_EXPORTER_OTLP_PROTOCOL="grpc", OTEL_EXPORTER_OTLP_COMPRESSION="zebra")
        reply = ask_collector(os.environ)
        assert not reply.takes
        assert "zebra" in reply.said


class TestDoctor:
    @pytest.mark.parametrize(
        ("mode", "said"), [("ok", "ok telemetry collector takes spans"), ("401", "warn telemetry collector refuses the cr")]
    )
    def test_says_it(
        self, faulty: Callable[..., Any], otlp_to: Callable[..., None], capsys: pytest.CaptureFixture[str], mode: str, said: str
    ) -> None:
        """That something listens is not yet that spans arrive."""
        otlp_to(faulty(mode).url, timeout_s=25)
        assert 0 == main(["doctor"])
        assert said in " ".join(capsys.readouterr().out.split())

    def test_does_not_ask_where_nobody_listens(self, otlp_to: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
        """The line above has said it."""
        otlp_to("http://127.0.0.1:9")
        assert 0 == main(["doctor"])
        found = capsys.readouterr().out
        assert "nobody listens" in found
        assert "telemetry collector" not in found


class TestPatience:
    @pytest.mark.parametrize(("far", "least_s"), [(True, 1.0), (False, 0.0)])
    def test_one_that_is_far_away_is_waited_for(self, monkeypatch: pytest.MonkeyPatch, far: bool, least_s: float) -> None:
        """A vendor's collector answers after more than the moment that is enough on this machine."""
        waited: list[float] = []

        def refuse(address: object, timeout: float) -> None:
            waited.append(timeout)
            raise TimeoutError

        monkeypatch.setattr(socket, "create_connection", refuse)
        environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://otel.example"}
        collector = Collector.configured(environ, "TRACES", "http/protobuf") if far else Collector.local("http/protobuf")
        assert not collector.listens()
        assert waited[0] >= least_s
        assert far is (waited[0] > 0.5)
