"""The SDK's gRPC exporter, whose answers are read: a partial success is no success of every span."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import grpc
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from otel_runtime.telemetry.otlp_watch import Answer, Watch

__all__ = ["WatchedGrpc"]

# https://opentelemetry.io/docs/specs/otlp/#failures: what must not be retried, as the HTTP status of the same meaning.
_REFUSALS: Mapping[object, int] = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.UNIMPLEMENTED: 404,
    grpc.StatusCode.ALREADY_EXISTS: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.INTERNAL: 400,
    # A message above the receiver's limit; a receiver that is merely busy says so with retry information.
    grpc.StatusCode.RESOURCE_EXHAUSTED: 413,
}
_RETRY_INFO: Final = "google.rpc.retryinfo-bin"


class WatchedGrpc(OTLPSpanExporter):
    """Tells the watch of attempts and answers.

    Args:
        watch: What is told.
    """

    def __init__(self, watch: Watch) -> None:
        self._watch = watch
        super().__init__()
        client = getattr(self, "_client", None)
        if client is not None and not isinstance(client, _Stub):
            # Before 1.40 the stub is made once, and not by the method below.
            self._client = _Stub(client, watch)  # type: ignore[assignment]  # stands in for the stub
        # A version of the SDK that keeps no stub there is not watched.
        watch.blind = client is None

    def _initialize_channel_and_stub(self) -> None:
        # The SDK makes channel and stub here, also when it reconnects, and has no public place for the answer.
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]  # the SDK's own
        self._client = _Stub(self._client, self._watch)  # type: ignore[assignment]  # stands in for the stub


class _Stub:
    def __init__(self, real: Any, watch: Watch) -> None:
        self._real = real
        self._watch = watch

    def Export(self, *args: Any, **kwargs: Any) -> Any:  # noqa: N802 - the service's own name
        """Export, and remember the answer."""
        self._watch.attempt()
        try:
            found = self._real.Export(*args, **kwargs)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            if code in _REFUSALS and not _is_busy(error):
                self._watch.answer = Answer(_REFUSALS[code], message=str(code))
            raise
        self._watch.heard_message(found)
        return found


def _is_busy(error: Any) -> bool:
    return error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and any(key == _RETRY_INFO for key, _ in error.trailing_metadata() or ())
