"""Replace the policy while the program runs: load, check with its own cases, and swap in one step; a faulty one changes nothing.

Theory of operation:

- A reload is whole or not at all. The new files are read, understood, compiled and tried on their own cases beside the old set; then one
  assignment puts them in force (`policy/live`). Whatever fails on the way leaves the last good set in force, and is said loudly.
- The truth is what lies on the disk: a thread compares the files' marks every second. Notifications (watchfiles) only shorten that.
- A file is read when nothing moved for a moment and did not move while it was read. YAML that does not end with a line break is taken for
  half-written, because half a policy may be a policy. Several files change together only when their directory is replaced in one step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from otel_runtime.errors import ConfigError, OtelRuntimeError, RuntimeStateError
from otel_runtime.policy.live import LiveEngine
from otel_runtime.runtime.watched import Marks, Watched

if TYPE_CHECKING:
    from otel_runtime.policy.loading import LoadedPolicy
    from otel_runtime.policy.protocol import Engine

__all__ = ["Loaded", "Reload", "Reloader", "require_watchfiles"]

_log = logging.getLogger("otel_runtime")
_POLL_S: Final = 1.0
# How long nothing may move before files are read.
_QUIET_S: Final = 0.15
_MOST_ROUNDS: Final = 40
_YAML: Final = frozenset({".yaml", ".yml"})

Loaded = tuple["LoadedPolicy | None", "Engine"]


@dataclass(frozen=True, slots=True)
class Reload:
    """What became of one reload.

    Args:
        outcome: `loaded`, or `rejected` when the last good set stays.
        digest: Digest of the rules in force afterwards.
        before: Digest of the rules in force before.
        files: The files that are in force.
        fault: Why it was rejected; empty when it was not.
    """

    outcome: str
    digest: str
    before: str
    files: tuple[str, ...] = ()
    fault: str = ""


class Reloader:
    """The policy in force, and the thread that keeps it so.

    Args:
        name: Name of the runtime, for words and the thread.
        live: Where engines are put in force.
        policy: The rules of our own that are in force; None without.
        load: Loads what is configured, and raises when anything is wrong with it.
        watched: The files.
        tell: Told of every reload, for metrics, events and the audit; its failures are logged.
    """

    def __init__(
        self,
        name: str,
        live: LiveEngine,
        policy: LoadedPolicy | None,
        load: Callable[[], Loaded],
        watched: Watched,
        tell: Callable[[Reload], None],
    ) -> None:
        self._name = name
        self._live = live
        self._policy = policy
        self._load = load
        self._watched = watched
        self._tell = tell
        self._counts = {"loaded": 0, "rejected": 0}
        self._last: Reload | None = None
        self._seen: Marks | None = None
        # Reentrant: whoever is told of a reload may reload.
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def policy(self) -> LoadedPolicy | None:
        """The rules of our own that are in force."""
        return self._policy

    @property
    def watching(self) -> bool:
        """True while a thread of this process watches the files."""
        return self._thread is not None and self._thread.is_alive()

    def reload(self) -> LoadedPolicy | None:
        """Load the configured policy and put it in force.

        Returns:
            The rules of our own that are in force now.

        Raises:
            ConfigError: Something is wrong with it; the last good set stays in force.
        """
        with self._lock:
            before = self._live.digest
            # What moves from here on is another version, which the thread looks at again.
            self._seen = self._watched.marks()
            try:
                self._refuse_half_written()
                policy, engine = self._load()
            except Exception as error:
                first = str(error).partition("\n")[0] if isinstance(error, OtelRuntimeError) else f"{type(error).__name__}: {error}"
                self._said(Reload("rejected", before, before, self._files(), first))
                _log.error(
                    "runtime `%s` keeps its last good policy (digest %.12s); the changed one is refused:\n%s", self._name, before, error
                )
                raise
            self._policy = policy
            self._live.replace(engine)
            self._said(Reload("loaded", engine.digest, before, self._files()))
            _log.log(
                logging.INFO if engine.digest == before else logging.WARNING,
                "runtime `%s` has put a policy in force that was read again: %s, digest %.12s (before: %.12s)",
                self._name,
                f"{policy.rules} rules" if policy is not None else "no rules of its own",
                engine.digest,
                before,
            )
            return policy

    def watch(self, seen: Marks) -> None:
        """Start the thread.

        Args:
            seen: The marks of the files from before they were loaded.
        """
        self._seen = seen
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(self._stop,), name=f"{self._name}-policy", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = 1.0) -> None:
        """End the thread; the policy stays in force."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        self._thread = None

    def after_fork(self) -> None:
        """In a forked child: the thread is gone, so another one is started, and locks are new."""
        self._lock = threading.RLock()
        if self._thread is not None and not self._stop.is_set() and self._seen is not None:
            self.watch(self._seen)

    def report(self) -> Mapping[str, object]:
        """What `doctor` shows."""
        last = self._last
        return {
            "digest": self._live.digest,
            "watching": self.watching,
            **self._counts,
            "last_fault": last.fault if last is not None else "",
        }

    def _files(self) -> tuple[str, ...]:
        return self._policy.files if self._policy is not None else ()

    def _said(self, reload: Reload) -> None:
        try:
            self._tell(reload)
        except Exception:  # noqa: BLE001  # what is in force does not depend on who could be told
            _log.exception("a reload of the policy of runtime `%s` could not be recorded", self._name)
        # Whoever sees it counted finds it told.
        self._last = reload
        self._counts[reload.outcome] += 1

    def _refuse_half_written(self) -> None:
        for path in self._watched.files():
            if path.suffix.lower() in _YAML and _open_ended(path):
                hint = "the last line has no line break, so the file may still be being written; end it with one"
                raise ConfigError.of("P001", hint, str(path))

    def _work(self, stop: threading.Event) -> None:
        for _ in self._watched.wakes(stop, _POLL_S):
            try:
                self._look(stop)
            except Exception:  # noqa: BLE001  # the thread must live: the next edit may be the one that mends it
                _log.exception("runtime `%s` could not look at its policy files; it goes on watching", self._name)

    def _look(self, stop: threading.Event) -> None:
        for _ in range(_MOST_ROUNDS):
            now = self._watched.marks()
            if now == self._seen or stop.is_set():
                return
            if stop.wait(_QUIET_S) or self._watched.marks() != now:
                continue
            # Said by `reload`, and the last good set is in force.
            with suppress(Exception):
                self.reload()


def require_watchfiles() -> None:
    """Make sure that watchfiles is there.

    Raises:
        RuntimeStateError: It is not installed.
    """
    try:
        import watchfiles  # noqa: F401  # only programs that watch their policy pay for it
    except ImportError as error:
        raise RuntimeStateError("the setting `policy_reload` needs the extra `reload`: pip install 'otel-runtime[reload]'") from error


def _open_ended(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            if file.seek(0, 2) == 0:
                return False
            file.seek(-1, 2)
            return file.read(1) != b"\n"
    except OSError:
        # Loading says what is wrong with it.
        return False
