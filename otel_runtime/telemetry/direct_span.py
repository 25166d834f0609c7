"""A span of the SDK without what makes it slow: our attributes are clean and few, so nothing is copied, cleaned or bounded key by key.

Theory. `DirectSpan` is the SDK's own `Span` (processors, exporters and applications see nothing else) whose costly parts come into being
only when somebody asks for them: the bounded attributes, events and links, each with a lock of its own. Until then a plain dictionary
holds the attributes. Every method that this class does not override is the SDK's and finds the parts it expects.

INVARIANT: the names below are all that a span and a tracer of the SDK keep; `fits` proves it against those of the SDK that runs here. With
an SDK that keeps more, spans are started by the public API, and only the cost differs.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any, Final

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, Span, SpanLimits, SpanProcessor, Tracer
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import INVALID_SPAN_CONTEXT, Link, SpanContext, SpanKind, Status, TraceFlags
from opentelemetry.util.types import Attributes as SdkAttributes

from otel_runtime.telemetry.operations import Attributes

__all__ = ["DirectSpan", "direct_span", "fits", "place_of"]

# Our own attributes never come near the SDK's default bound; a lower one is the SDK's to keep.
_ROOM: Final = 128
_LAST_TRACE: Final = (1 << 128) - 1
_LAST_SPAN: Final = (1 << 64) - 1
_log = logging.getLogger(__name__)
_TRACER_KEEPS: Final = frozenset(
    "sampler resource span_processor id_generator instrumentation_info _span_limits _instrumentation_scope _tracer_config"
    " _tracer_metrics".split()
)
_SPAN_KEEPS: Final = frozenset(
    "_name _context _kind _instrumentation_info _instrumentation_scope _parent _start_time _end_time _attributes _events _links _resource"
    " _status _sampler _trace_config _record_exception _set_status_on_exception _span_processor _limits _lock _record_end_metrics".split()
)


class _Late:
    """A part of a span that is made at the first look at it; later looks find it on the span itself."""

    def __init__(self, name: str, make: Callable[[Any], object]) -> None:
        self._name = name
        self._make = make

    def __get__(self, span: object, owner: type | None = None) -> Any:
        # setdefault: two threads that look at once get the same one.
        return self if span is None else vars(span).setdefault(self._name, self._make(span))


def _bounded_attributes(span: DirectSpan) -> BoundedAttributes:
    limits = span._limits  # noqa: SLF001  # a part of the class below
    ended = span._end_time is not None  # noqa: SLF001  # as above
    return BoundedAttributes(limits.max_span_attributes, span.own, immutable=ended, max_value_len=limits.max_span_attribute_length)


class DirectSpan(Span):
    """A span that was started without the SDK's constructor; made by `direct_span`.

    Attributes:
        own: The attributes, for as long as only we have set any.
    """

    own: Attributes
    _attributes: Any = _Late("_attributes", _bounded_attributes)
    _events: Any = _Late("_events", lambda span: BoundedList(span._limits.max_events))  # noqa: SLF001  # as above
    _links: Any = _Late("_links", lambda span: BoundedList(span._limits.max_links))  # noqa: SLF001  # as above
    _status: Status = Status()
    _end_time: int | None = None
    _sampler: Any = None
    _trace_config: Any = None
    _record_end_metrics: Any = None
    # We record exceptions ourselves.
    _record_exception = False
    _set_status_on_exception = False

    def begin(
        self, tracer: Tracer, name: str, place: SpanContext, parent: SpanContext | None, kind: SpanKind, own: Attributes, started: int
    ) -> None:
        """Take the place of the SDK's constructor.

        Args:
            tracer: Its tracer.
            name: Its name.
            place: Its own place.
            parent: The place of its parent; None at a root.
            kind: Its kind.
            own: Clean attributes; the span's from now on.
            started: Nanoseconds since 1970.
        """
        self.own = own
        self._name = name
        self._context = place
        self._parent = parent
        self._kind = kind
        self._start_time = started
        self._resource = tracer.resource
        self._limits = tracer._span_limits  # noqa: SLF001  # the SDK's spans are given it by their tracer
        self._span_processor = tracer.span_processor
        self._instrumentation_scope = tracer._instrumentation_scope  # noqa: SLF001  # as above
        self._instrumentation_info = tracer.instrumentation_info
        self._lock = threading.Lock()

    def get_span_context(self) -> SpanContext:
        """Its place; the SDK's own method takes a second function to say so."""
        return self._context  # type: ignore[return-value]  # `begin` was given one

    def add_own(self, late: Attributes) -> None:
        """Set clean attributes of ours."""
        with self._lock:
            if self._end_time is None and "_attributes" not in self.__dict__ and len(self.own) + len(late) <= _ROOM:
                self.own.update(late)
                return
        self.set_attributes(late)

    @property
    def attributes(self) -> SdkAttributes:
        """What was set so far, read-only."""
        bounded = self.__dict__.get("_attributes")
        return MappingProxyType(self.own if bounded is None else bounded)

    @property
    def dropped_attributes(self) -> int:
        """How many were evicted."""
        bounded = self.__dict__.get("_attributes")
        return 0 if bounded is None else int(bounded.dropped)

    @property
    def events(self) -> Sequence[Event]:
        """Events so far."""
        found = self.__dict__.get("_events")
        return () if found is None else tuple(found)

    @property
    def links(self) -> Sequence[Link]:
        """Links so far."""
        found = self.__dict__.get("_links")
        return () if found is None else tuple(found)

    def end(self, end_time: int | None = None) -> None:
        """End it once and hand it on: it is its own readable span, which nothing can change any more."""
        with self._lock:
            if self._end_time is not None:
                _log.warning("Calling end() on an ended span.")
                return
            self._end_time = time.time_ns() if end_time is None else end_time
            bounded = self.__dict__.get("_attributes")
            if bounded is not None:
                bounded._immutable = True  # noqa: SLF001  # as the SDK's own end does
        processor = self._span_processor
        if _HAS_ENDING:
            processor._on_ending(self)  # noqa: SLF001  # as above
        processor.on_end(self)


_HAS_ENDING: Final = hasattr(SpanProcessor, "_on_ending")


def direct_span(
    tracer: Tracer,
    name: str,
    place: SpanContext,
    parent: SpanContext | None,
    kind: SpanKind,
    own: Attributes,
    started: int,
    around: Context,
    foreign: SdkAttributes = None,
) -> DirectSpan:
    """A running span, already shown to the processors.

    Args:
        tracer: As for `DirectSpan.begin`, like all but the last two.
        name: As above.
        place: As above.
        parent: As above.
        kind: As above.
        own: As above.
        started: As above.
        around: The context around it.
        foreign: Attributes that were not cleaned by us.
    """
    # The SDK's `__new__` and `__init__` are what this is for.
    span: DirectSpan = object.__new__(DirectSpan)
    span.begin(tracer, name, place, parent, kind, own, started)
    if foreign:
        span.set_attributes(foreign)
    tracer.span_processor.on_start(span, parent_context=around)
    return span


def place_of(trace_id: int, span_id: int, flags: TraceFlags, state: Any) -> SpanContext:
    """A local place, as the constructor would make it."""
    valid = 0 < trace_id <= _LAST_TRACE and 0 < span_id <= _LAST_SPAN
    return tuple.__new__(SpanContext, (trace_id, span_id, False, flags, state, valid))


def fits(tracer: object) -> bool:
    """True when spans of this tracer can be made directly: it is the SDK's own, keeps only what we know, and has room for our attributes."""
    if type(tracer) is not Tracer or not vars(tracer).keys() <= _TRACER_KEEPS or not _known_sdk():
        return False
    limits: SpanLimits = tracer._span_limits  # noqa: SLF001  # as above
    counts = type(getattr(tracer, "_tracer_metrics", None)).__name__
    most = limits.max_span_attributes
    return limits.max_span_attribute_length is None and (most is None or most >= _ROOM) and counts in ("NoneType", "NoOpTracerMetrics")


class _Sample(Span):
    """A span of the SDK that runs here, to look at."""


@cache
def _known_sdk() -> bool:
    sample = _Sample("sample", INVALID_SPAN_CONTEXT, resource=Resource.get_empty(), limits=SpanLimits())
    flags = TraceFlags(TraceFlags.SAMPLED)
    place = SpanContext(1, 2, is_remote=False, trace_flags=flags)
    ours = [place_of(*ids, flags, place.trace_state) for ids in ((1, 2), (0, 2), (1, 1 << 64))]
    theirs = [SpanContext(*ids, is_remote=False, trace_flags=flags) for ids in ((1, 2), (0, 2), (1, 1 << 64))]
    return vars(sample).keys() <= _SPAN_KEEPS and [tuple(one) for one in ours] == [tuple(one) for one in theirs]
