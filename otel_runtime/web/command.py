"""What `otel-runtime serve` does: open the approvals, tell the address, serve until Ctrl-C."""

from __future__ import annotations

from pathlib import Path

from otel_runtime.runtime.build import open_approvals
from otel_runtime.settings.loading import load_settings
from otel_runtime.web.identity import os_user
from otel_runtime.web.loopback import loopback
from otel_runtime.web.server import InboxServer

__all__ = ["serve"]


def serve(host: str, port: int, settings_file: Path | None, state_file: Path | None) -> int:
    """Serve the inbox; returns the exit code.

    Args:
        host: Loopback address to listen on.
        port: Port; 0 takes a free one.
        settings_file: Settings file instead of the one found from here.
        state_file: State database instead of the setting `state`.

    Raises:
        ConfigError: The host is not of this machine, or the settings are wrong.
        StoreError: The state database cannot be used.
        RuntimeStateError: The port is taken.
    """
    # Before the database is opened: a refused start leaves no file behind.
    loopback(host)
    settings = load_settings(settings_file, **({} if state_file is None else {"state": state_file}))
    service = open_approvals(settings)
    try:
        server = InboxServer(service, os_user(), host, port, settings.trace_url)
        server.run_for_a_person(
            f"Approval inbox: {server.url}\nIt shows the requests in {settings.state}. Open it in a browser on this machine. Ctrl-C stops.\n"
        )
    finally:
        service.close()
        service.database.close()
    return 0
