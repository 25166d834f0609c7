"""The folder an agent works in: shop database, outbox, settings file, and the two servers around it."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from scripted_model import ScriptedModel
from seed import fill
from shop import Shop
from supplier_site import SupplierSite

__all__ = ["APPROVER_ROLE", "Workspace", "approver", "find_policy", "program", "surroundings"]

APPROVER_ROLE = "finance"
_POLICY = "support-agent.yaml"
_SETTINGS = """\
# Settings of this run. Every command that is started in this folder reads them.
policy: {policy}
state: .otel-runtime/state.db
wait_at_most: {wait}s
console: true
trace_file: trace.json
# Who may answer approvals: the name of the OS user who runs `otel-runtime approvals approve`, and the roles it has.
people:
  {person}: {{roles: [{role}]}}
# What goes into and comes out of tools and models is written on the spans, because everything here is invented. Off by default.
capture: SPAN_ONLY
"""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where one run keeps its things.

    Args:
        root: The folder.
        model: What answers the agent: the scripted model, or the address of a real one.
        scripted: True when no real model was configured.
    """

    root: Path
    model: str
    scripted: bool

    @property
    def shop(self) -> Shop:
        """The shop's database."""
        return Shop(self.root / "shop.db")

    @property
    def outbox(self) -> Path:
        """Where sent mails lie, one .eml file each."""
        return self.root / "outbox"

    @property
    def trace_file(self) -> Path:
        """The OTLP-JSON file."""
        return self.root / "trace.json"


def approver() -> str:
    """The OS user, whom the settings file makes an approver; by the user database, as `otel-runtime approvals` finds it."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        # Containers often run under a number that has no name.
        return f"uid-{os.getuid()}"


def program() -> str:
    """How to type `otel-runtime` here: by name where the shell finds it, else by its path."""
    beside = Path(sys.executable).with_name("otel-runtime")
    if shutil.which("otel-runtime"):
        return "otel-runtime"
    return str(beside) if beside.is_file() else f"{sys.executable} -m otel_runtime"


def find_policy(given: Path | None = None) -> Path:
    """The policy file: the one given, else beside this example, else in the repository's `policy/`.

    Raises:
        SystemExit: There is none; the message says what to do.
    """
    here = Path(__file__).resolve().parent
    places = [given] if given else [here / _POLICY, here.parent.parent / "policy" / _POLICY]
    for place in places:
        if place.is_file():
            return place.resolve()
    raise SystemExit(f"no policy at {' or '.join(map(str, places))}; copy policy/{_POLICY} beside this file, or name it with --policy FILE")


@contextmanager
def surroundings(root: Path, policy: Path, wait_s: int) -> Iterator[Workspace]:
    """Make the folder, start the servers and work in it until the block ends.

    Args:
        root: A new or empty folder.
        policy: Absolute path of the policy file.
        wait_s: Seconds a call waits for an approval before it suspends.

    Raises:
        SystemExit: The folder already holds something.
    """
    if root.exists() and any(root.iterdir()):
        raise SystemExit(f"the workspace {root} is not empty; name a new folder")
    with ExitStack() as stack:
        site = stack.enter_context(SupplierSite())
        address, scripted = _model(stack)
        _furnish(root, policy, wait_s, site.notice_url)
        stack.enter_context(contextlib.chdir(root))
        yield Workspace(root, address, scripted)


def _furnish(root: Path, policy: Path, wait_s: int, notice_url: str) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "outbox").mkdir()
    # JSON strings are YAML strings: a path or user name with odd characters stays what it is.
    text = _SETTINGS.format(policy=json.dumps(str(policy)), wait=wait_s, person=json.dumps(approver()), role=APPROVER_ROLE)
    (root / "otel-runtime.yaml").write_text(text, encoding="utf-8")
    fill(Shop(root / "shop.db"), notice_url)


def _model(stack: ExitStack) -> tuple[str, bool]:
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        # Local servers want no key, but the client insists on one.
        os.environ.setdefault("OPENAI_API_KEY", "not-needed")
        return os.environ.get("OPENAI_BASE_URL", "https://api.openai.com/v1"), False
    model = stack.enter_context(ScriptedModel())
    stack.enter_context(_environment(OPENAI_BASE_URL=model.base_url, OPENAI_API_KEY="scripted", NO_PROXY=_no_proxy()))
    return model.base_url, True


def _no_proxy() -> str:
    # A proxy cannot reach this machine's loopback.
    others = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    return ",".join(filter(None, [others, "127.0.0.1"]))


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
