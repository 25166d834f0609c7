"""The receiver itself."""

from __future__ import annotations

import socket
from contextlib import ExitStack

from otel_runtime.testing.receiver import OtlpReceiver


class TestManyAtOnce:
    def test_nobody_is_turned_away(self) -> None:
        """Fifty programs that come at the same moment are all let in, also while the machine has no time for the receiver."""
        receiver = OtlpReceiver()
        host, _, port = receiver.endpoint.removeprefix("http://").partition(":")
        with ExitStack() as doors:
            # Nobody accepts yet. One too many would wait here for good.
            connected = [doors.enter_context(socket.create_connection((host, int(port)), timeout=10)) for _ in range(50)]
            assert 50 == len(connected)
        with receiver:
            assert [] == receiver.names()
