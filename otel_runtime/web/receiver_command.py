"""What `otel-runtime ingest --listen PORT` does: take events over HTTP until Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_runtime.runtime.build import build_runtime
from otel_runtime.runtime.ingesting import Feed, feed
from otel_runtime.settings.loading import load_settings
from otel_runtime.web.receiver import EventReceiver

__all__ = ["receive"]


def receive(port: int, source: str, settings_file: Path | None) -> int:
    """Serve; returns the exit code.

    Args:
        port: Port on the loopback interface; 0 takes a free one.
        source: Vocabulary of the events.
        settings_file: Settings file instead of the one found from here.

    Raises:
        ConfigError: The source is unknown, or the settings are wrong.
        RuntimeStateError: The port is taken.
    """
    settings = load_settings(settings_file)
    # Foreign work was decided elsewhere: our policy and its database have no part in it.
    with build_runtime(settings.model_copy(update={"policy": ()})) as runtime, runtime.use(), feed(source=source) as into:
        counts: list[int] = []

        @contextmanager
        def another() -> Iterator[Feed]:
            with feed(source=source) as own:
                yield own
            counts.append(own.count)

        receiver = EventReceiver(into, port=port, streams=another)
        receiver.run_for_a_person(
            f"POST events to {receiver.url} or send them to {receiver.socket_url}\nAuthorization: Bearer {receiver.token}\nCtrl-C stops.\n"
        )
        sys.stdout.write(f"{into.count + sum(counts)} events taken\n")
    return 0
