"""`instrument`: functions are wrapped without touching their code, wherever and whenever they are imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import otel_runtime as rt
from otel_runtime.runtime import configuring
from otel_runtime.wrap.active import reset_slot

SHOP = '''
"""A shop."""
from functools import lru_cache

def refund(order: int) -> str:
    """Refunds."""
    return f"refunded {order}"

async def arefund(order: int) -> str:
    return f"refunded {order}"

def _hidden() -> None: ...

class Desk:
    def answer(self, question: str) -> str:
        return refund(len(question))

    @staticmethod
    def close() -> str:
        return "closed"

    @classmethod
    def open(cls) -> str:
        return cls.__name__

    def _secret(self) -> None: ...

class Special(Desk):
    pass
'''
ALLOW = "version: 1\nname: t\ndefault: deny\nrules:\n  - {id: a, tool: other, decision: allow}\n"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty project with a package `kiosk`; whatever was configured and imported is gone afterwards."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "kiosk").mkdir()
    (tmp_path / "kiosk" / "__init__.py").write_text("")
    (tmp_path / "kiosk" / "tools.py").write_text(SHOP)
    (tmp_path / "policy.yaml").write_text(ALLOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OTEL_RUNTIME_OTLP", "off")
    yield tmp_path
    for _, _, runtime in configuring._configured.values():
        runtime.uninstrument()
        runtime.shutdown()
    configuring._configured.clear()
    reset_slot()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("kiosk", "taker")]:
        del sys.modules[name]


def spans(here: Path, runtime: rt.Runtime) -> str:
    runtime.flush(60)
    return (here / "t.json").read_text() if (here / "t.json").exists() else ""


def configured(*targets: object, **settings: object) -> rt.Runtime:
    return rt.configure(instrument=list(targets), trace_file="t.json", **settings)  # type: ignore[arg-type]  # mistakes are tested too


class TestWhen:
    """Before and after the import."""

    def test_imported_later(self, here: Path) -> None:
        """The function is wrapped when its module is imported, and stays itself."""
        runtime = configured("kiosk.tools:refund")
        tools = importlib.import_module("kiosk.tools")
        assert ("refunded 1", "refund", "Refunds.") == (tools.refund(1), tools.refund.__name__, tools.refund.__doc__)
        assert "execute_tool refund" in spans(here, runtime)

    def test_imported_earlier(self, here: Path) -> None:
        """A module that is there already is patched where it stands."""
        tools = importlib.import_module("kiosk.tools")
        runtime = configured("kiosk.tools:refund")
        assert "refunded 1" == tools.refund(1)
        assert "execute_tool refund" in spans(here, runtime)

    def test_taken_by_name_earlier(self, here: Path) -> None:
        """`from kiosk.tools import refund as give` in another module is reached as well."""
        (here / "taker.py").write_text("from kiosk.tools import refund as give\n")
        taker = importlib.import_module("taker")
        runtime = configured("kiosk.tools:refund")
        taker.give(1)
        assert "execute_tool refund" in spans(here, runtime)
        original = taker.give.__wrapped__
        runtime.uninstrument()
        assert taker.give is original

    def test_nothing_is_imported_for_it(self) -> None:
        """Looking for a target runs none of the program's code."""
        configured("kiosk.tools:refund", "kiosk.tools:Desk.answer")
        assert [] == [name for name in sys.modules if name.startswith("kiosk")]

    def test_taken_back(self) -> None:
        """For tests: every function is its own again, also one that is imported later."""
        runtime = configured("kiosk.tools:*", "kiosk.tools:Special.answer")
        runtime.uninstrument()
        tools = importlib.import_module("kiosk.tools")
        assert not hasattr(tools.refund, "__wrapped__")


class TestWhat:
    """What a target may name."""

    @pytest.mark.parametrize(
        ("target", "call", "span"),
        [
            ("kiosk.tools:Desk.answer", "Desk().answer('why')", "execute_tool answer"),
            ("kiosk.tools:Desk.close", "Desk.close()", "execute_tool close"),
            ("kiosk.tools:Desk.open", "Desk.open()", "execute_tool open"),
            ("kiosk.tools:Special.answer", "Special().answer('why')", "execute_tool answer"),
            ("kiosk.tools:ref*", "refund(1)", "execute_tool refund"),
            ("kiosk.tools:*", "__import__('asyncio').run(arefund(1))", "execute_tool arefund"),
        ],
    )
    def test_functions_and_methods(self, here: Path, target: str, call: str, span: str) -> None:
        """Functions, methods of every sort, inherited ones, and globs in the last name."""
        runtime = configured(target)
        tools = importlib.import_module("kiosk.tools")
        eval(call, vars(tools))
        assert span in spans(here, runtime)

    def test_an_inherited_method_is_wrapped_in_the_subclass_only(self, here: Path) -> None:
        """The base class keeps its own."""
        configured("kiosk.tools:Special.answer")
        tools = importlib.import_module("kiosk.tools")
        assert (True, False) == (hasattr(tools.Special.answer, "__wrapped__"), hasattr(tools.Desk.answer, "__wrapped__"))

    def test_a_glob_takes_own_public_functions(self) -> None:
        """Neither private ones nor what the module imported."""
        configured("kiosk.tools:*", "kiosk.tools:Desk.*")
        tools = importlib.import_module("kiosk.tools")
        from otel_runtime.wrap.plan import plan_of

        found = {name for name, value in vars(tools).items() if plan_of(value)}
        inside = {name for name, value in vars(tools.Desk).items() if plan_of(getattr(value, "__func__", value))}
        assert ({"refund", "arefund"}, {"answer", "close", "open"}) == (found, inside)

    def test_kind_name_and_more(self, here: Path) -> None:
        """A target may say what its decorator would have been told."""
        (here / "otel-runtime.yaml").write_text(
            "trace_file: t.json\ninstrument:\n"
            "  - {target: 'kiosk.tools:Desk.answer', kind: agent, name: helpdesk, session: question}\n"
            "  - {target: 'kiosk.tools:refund', kind: tool, name: pay_back, tags: [money]}\n"
        )
        runtime = rt.configure()
        importlib.import_module("kiosk.tools").Desk().answer("s-1")
        text = spans(here, runtime)
        assert all(word in text for word in ("invoke_agent helpdesk", "execute_tool pay_back", "s-1"))

    def test_capture_off(self, here: Path) -> None:
        """`capture: false` keeps arguments and results of one function out."""
        runtime = configured({"target": "kiosk.tools:refund", "capture": False}, {"target": "kiosk.tools:Desk.answer"}, capture="SPAN_ONLY")
        importlib.import_module("kiosk.tools").Desk().answer("four")
        text = spans(here, runtime)
        assert (1, True) == (text.count("gen_ai.tool.call.arguments"), "four" in text)

    def test_decorated_in_the_code_as_well(self, here: Path) -> None:
        """One call is one span, and the code's own decorator wins."""
        (here / "kiosk" / "tools.py").write_text("import otel_runtime as rt\n@rt.tool('own')\ndef refund(order): return order\n")
        runtime = configured("kiosk.tools:refund")
        importlib.import_module("kiosk.tools").refund(1)
        text = spans(here, runtime)
        assert (1, False) == (text.count('"execute_tool own"'), "execute_tool refund" in text)

    def test_the_policy_decides(self) -> None:
        """A wrapped tool is a guarded tool, and stays one after the shutdown."""
        runtime = configured("kiosk.tools:refund", policy="policy.yaml")
        tools = importlib.import_module("kiosk.tools")
        with pytest.raises(rt.PolicyDenied):
            tools.refund(1)
        runtime.shutdown()
        with pytest.raises(rt.PolicyUnavailable, match="was shut down"):
            tools.refund(1)


class TestMistakes:
    """A target that does not exist is never skipped without a word."""

    @pytest.mark.parametrize(
        ("target", "said"),
        [
            ("kiosk.tools:refnd", "has no function `refnd`; did you mean `refund`?"),
            ("kiosk.tool:refund", "there is no module `tool` in package `kiosk`; did you mean `tools`?"),
            ("kisk.tools:refund", "there is no module `kisk`; did you mean `kiosk`?"),
            ("kiosk.tools:Desk.anser", "has no function `anser`; did you mean `answer`?"),
            ("kiosk.tools:Special.anser", "`kiosk.tools.Special` has no function `anser`; did you mean `answer`?"),
            ("kiosk.tools:Dsk.answer", "`kiosk.tools` has no function `Dsk`; did you mean `Desk`?"),
            ("kiosk.tools:Dsk.*", "`kiosk.tools` has no function `Dsk`; did you mean `Desk`?"),
            ("kiosk.tools:xyz*", "has no function `xyz*`"),
        ],
    )
    @pytest.mark.parametrize("imported", [True, False])
    def test_name_the_nearest(self, target: str, said: str, imported: bool) -> None:
        """At configure, whether or not the module was imported; and then nothing runs."""
        if imported:
            importlib.import_module("kiosk.tools")
        with pytest.raises(rt.ConfigError, match=r"error\[S02") as caught:
            configured(target)
        assert said in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "path"),
        [
            ("Desk.added = refund", "Desk.added"),
            ("Desk.added = refund", "Special.added"),
            ("class Odd(__import__('http').HTTPStatus.__class__): pass", "Odd.mro"),
            ("class Odd(list): pass", "Odd.append"),
            ("class Odd(Special, metaclass=type): pass", "Odd.mro"),
            ("if True:\n    class Odd: added = refund", "Odd.added"),
            ("Odd = type('Odd', (), {'added': refund})", "Odd.added"),
        ],
    )
    def test_what_may_exist_is_not_refused(self, here: Path, text: str, path: str) -> None:
        """Where reading the source cannot tell all that a class has, the import decides."""
        (here / "kiosk" / "tools.py").write_text(f"{SHOP}\n{text}\n")
        rt.configure(instrument=[f"kiosk.tools:{path}"])
        assert "refunded 4" == importlib.import_module("kiosk.tools").Desk().answer("four")

    def test_a_class(self) -> None:
        """It would no longer be a class; a method is asked for."""
        importlib.import_module("kiosk.tools")
        with pytest.raises(rt.ConfigError, match="it is a class; name one of its methods"):
            configured("kiosk.tools:Desk")

    def test_builtins(self) -> None:
        """A wrapped `len` would be called by the wrapper itself; the program is told instead of hanging."""
        with pytest.raises(rt.ConfigError, match="functions of `builtins` cannot be wrapped"):
            configured("builtins:len")

    def test_nothing_is_half_patched(self) -> None:
        """One bad target, and the good one is as it was."""
        tools = importlib.import_module("kiosk.tools")
        with pytest.raises(rt.ConfigError):
            configured("kiosk.tools:refund", "kiosk.tools:Desk")
        assert not hasattr(tools.refund, "__wrapped__")

    @pytest.mark.parametrize("guarded", [True, False])
    def test_what_only_the_import_can_tell(self, here: Path, guarded: bool, caplog: pytest.LogCaptureFixture) -> None:
        """A tool that turns out to be missing ends the import where a policy should decide on it, and is logged and counted elsewhere."""
        (here / "kiosk" / "tools.py").write_text("globals()['refund'] = lambda: 1\n")
        runtime = configured("kiosk.tools:refnd", **({"policy": "policy.yaml"} if guarded else {}))
        if guarded:
            with pytest.raises(rt.ConfigError, match="did you mean `refund`"):
                importlib.import_module("kiosk.tools")
            return
        importlib.import_module("kiosk.tools")
        assert ["kiosk.tools:refnd"] == list(runtime.report()["instrument_missing"])  # type: ignore[call-overload]  # a report is plain data
        assert "did you mean `refund`" in caplog.text
        assert "still being run" not in caplog.text

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("- {target: 'kiosk.tools.refund'}", "expected `package.module:function`.*did you mean `kiosk.tools:refund`"),
            ("- {target: 'kiosk.tools:re fund'}", "expected `package.module:function`.* got `kiosk.tools:re fund`"),
            ("- 5", "expected `package.module:function`, or a mapping such as .*, got `5`"),
            ("- {target: 'kiosk.tools:refund', kind: took}", "did you mean `tool`|expected"),
            ("- {target: 'kiosk.tools:refund', provider: openai}", "`provider` belongs to kind `model`, got kind `tool`"),
            ("- {target: 'kiosk.tools:*', name: one}", "may fit several"),
            ("- {target: 'kiosk.tools:refund', capure: false}", "capure"),
        ],
    )
    def test_in_the_settings(self, here: Path, text: str, said: str) -> None:
        """A bad entry is refused with its place, and with what is expected there."""
        (here / "otel-runtime.yaml").write_text(f"instrument:\n  {text}\n")
        with pytest.raises(rt.ConfigError, match=said) as caught:
            rt.configure()
        assert "otel-runtime.yaml:2:" in str(caught.value)
