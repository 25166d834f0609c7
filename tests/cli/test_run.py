"""`otel-runtime run`: an unmodified program, as `python` runs it, with its functions wrapped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

AGENT = '''"""An agent."""
from __future__ import annotations

import sys

from pay import refund


def plan(question: str) -> str:
    return refund(question)


class Desk:
    @staticmethod
    def close() -> None:
        pass


if __name__ == "__main__":
    print(__name__, __doc__, sys.argv, plan("why"), __file__, __spec__ and __spec__.name)
    Desk.close()
    ENDING
'''
SETTINGS = """
otlp: "off"
trace_file: t.json
instrument:
  - {target: "pay:refund", kind: tool}
  - {target: "agent:plan", kind: agent}
  - {target: "__main__:Desk.close", kind: tool}
"""


@pytest.fixture(autouse=True)
def here(tmp_path: Path) -> Path:
    """A project whose program knows nothing of us."""
    (tmp_path / ".git").mkdir()
    (tmp_path / "pay.py").write_text("def refund(question):\n    return f'refunded {question}'\n")
    (tmp_path / "otel-runtime.yaml").write_text(SETTINGS)
    write(tmp_path, "pass")
    return tmp_path


def write(here: Path, ending: str) -> None:
    (here / "agent.py").write_text(AGENT.replace("ENDING", ending))


def patient() -> dict[str, str]:
    """Surroundings in which a busy machine has time to write its spans."""
    return {**os.environ, "OTEL_RUNTIME_FLUSH_TIMEOUT": "60s"}


def run(here: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "otel_runtime", "run", *words]
    return subprocess.run(command, cwd=here, capture_output=True, text=True, check=False, timeout=60, env=patient())


def as_python(here: Path, *words: str) -> tuple[int, str, str]:
    done = subprocess.run([sys.executable, *words], cwd=here, capture_output=True, text=True, check=False, timeout=60)
    return done.returncode, done.stdout, done.stderr


def as_ours(here: Path, *words: str) -> tuple[int, str, str]:
    done = run(here, *words)
    said = (line for line in done.stderr.splitlines(keepends=True) if "has no policy" not in line)
    return done.returncode, done.stdout, "".join(said)


PROGRAMS = {
    "names": "import sys\nprint(__file__, __cached__, type(__loader__), sys.argv, sys.path[0], sorted(globals()))\n",
    "moved": "import os\nos.chdir('/')\nprint(open(__file__).read())\n",
    "syntax": "def f(:\n",
    "group": "def f():\n    raise ExceptionGroup('all', [ValueError(1)])\nf()\n",
    "hook": "import sys\nsys.excepthook = lambda kind, error, trace: print(kind, error, trace.tb_lineno, trace.tb_next)\n1 / 0\n",
    "interrupt": (
        "import atexit, threading\natexit.register(print, 'at exit')\n"
        "gone = threading.Event()\nthreading.Thread(target=lambda: (gone.wait(), print('thread'))).start()\n"
        "try:\n    raise KeyboardInterrupt\nfinally:\n    gone.set()\n"
    ),
}


class TestProgram:
    """What the program sees."""

    def test_a_file(self, here: Path) -> None:
        """It is `__main__`, with its own arguments, and what it does is traced as a tree."""
        done = run(here, "agent.py", "--settings", "mine", "-m")
        expected = f"__main__ An agent. ['agent.py', '--settings', 'mine', '-m'] refunded why {here / 'agent.py'} None\n"
        assert (0, expected) == (done.returncode, done.stdout), done.stderr
        text = (here / "t.json").read_text()
        assert all(name in text for name in ("invoke_agent plan", "execute_tool refund", "execute_tool close"))

    def test_a_module(self, here: Path) -> None:
        """With -m it has its spec, and the file as its name."""
        done = run(here, "-m", "agent", "-x")
        file = str(here / "agent.py")
        assert (0, f"__main__ An agent. ['{file}', '-x'] refunded why {file} agent\n") == (done.returncode, done.stdout), done.stderr
        assert "invoke_agent plan" in (here / "t.json").read_text()

    def test_a_package(self, here: Path) -> None:
        """A package is run by its `__main__`, relative imports and all."""
        (here / "pkg").mkdir()
        (here / "otel-runtime.yaml").write_text("otlp: 'off'\n")
        (here / "pkg" / "__init__.py").write_text("")
        (here / "pkg" / "part.py").write_text("value = 7\n")
        (here / "pkg" / "__main__.py").write_text("from .part import value\nprint(value, __package__)\n")
        done = run(here, "-m", "pkg")
        assert (0, "7 pkg\n") == (done.returncode, done.stdout), done.stderr

    @pytest.mark.parametrize("ending", ["sys.exit(5)", "sys.exit('no')", "sys.exit()", "pass", "1 / 0", "raise SystemExit"])
    def test_ends_as_python_would_end_it(self, here: Path, ending: str) -> None:
        """Exit code, output and traceback are those of `python agent.py`."""
        write(here, ending)
        assert as_python(here, "agent.py") == as_ours(here, "agent.py")

    @pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
    def test_is_as_python_runs_it(self, here: Path, program: str) -> None:
        """What a program sees of itself, says and leaves behind, whatever it is and however it ends, is what `python` makes of it."""
        (here / "otel-runtime.yaml").write_text("otlp: 'off'\n")
        (here / "agent.py").write_text(program)
        expected = as_python(here, "agent.py", "-m", "x")
        assert expected == as_ours(here, "agent.py", "-m", "x")
        assert expected != (0, "", "")

    @pytest.mark.parametrize("words", [["app", "x"], ["app.pyz", "x"], ["-m", "app", "x"]], ids=["folder", "archive", "package"])
    def test_folders_and_archives(self, here: Path, words: list[str]) -> None:
        """A folder or a zip file with a `__main__.py` is a program too, whose modules are found in it, and its functions are wrapped."""
        (here / "app").mkdir()
        (here / "app" / "__main__.py").write_text(
            "import sys; sys.path.append('app'); import beside\ndef go(): return beside.value\n"
            "print(go(), __name__, __file__, __package__, __spec__.name, sys.argv, sys.path[0], type(__loader__))\n"
        )
        (here / "app" / "beside.py").write_text("value = 7\n")
        zipapp.create_archive(here / "app", here / "app.pyz")
        (here / "otel-runtime.yaml").write_text("otlp: 'off'\ntrace_file: t.json\ninstrument: ['__main__:go']\n")
        assert as_python(here, *words) == as_ours(here, *words)
        assert "execute_tool go" in (here / "t.json").read_text()

    def test_interrupted(self, here: Path) -> None:
        """Ctrl-C ends it by the signal, with its spans written."""
        write(here, "print('in', flush=True); __import__('time').sleep(90)")
        command = [sys.executable, "-m", "otel_runtime", "run", "agent.py"]
        process = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=patient())
        assert process.stdout is not None
        assert "in\n" in iter(process.stdout.readline, "")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        assert (-signal.SIGINT, True) == (process.returncode, err.rstrip().endswith("KeyboardInterrupt"))
        assert "execute_tool refund" in (here / "t.json").read_text()

    def test_pickles_and_children(self, here: Path) -> None:
        """Objects of `__main__` pickle, and a forked child has the runtime."""
        program = (
            "import multiprocessing, pickle\nfrom pay import refund\nclass A: pass\n"
            "if __name__ == '__main__':\n"
            "    assert isinstance(pickle.loads(pickle.dumps(A())), A)\n"
            "    process = multiprocessing.get_context('fork').Process(target=refund, args=('x',))\n"
            "    process.start(); process.join(); raise SystemExit(process.exitcode)\n"
        )
        (here / "agent.py").write_text(program)
        (here / "otel-runtime.yaml").write_text("otlp: 'off'\ntrace_file: t.json\ninstrument: ['pay:refund']\n")
        done = run(here, "agent.py")
        assert 0 == done.returncode, done.stderr
        assert "execute_tool refund" in (here / "t.json").read_text()

    def test_its_own_configure_is_the_same_runtime(self, here: Path) -> None:
        """A program that configures itself meets the runtime it already has."""
        write(here, "import otel_runtime as rt; print(rt.configure() is rt.configure())")
        done = run(here, "agent.py")
        assert (0, True) == (done.returncode, done.stdout.endswith("True\n")), done.stderr

    def test_the_policy_guards_it(self, here: Path) -> None:
        """What the policy denies does not run, in a program that never heard of it."""
        (here / "policy.yaml").write_text("version: 1\nname: t\ndefault: deny\nrules: [{id: a, tool: close, decision: allow}]\n")
        (here / "otel-runtime.yaml").write_text(SETTINGS + "policy: policy.yaml\n")
        done = run(here, "agent.py")
        assert (1, "", True) == (done.returncode, done.stdout, "PolicyDenied" in done.stderr)


class TestMistakes:
    """Nothing of the program runs after one."""

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (["nowhere.py"], "there is no such program"),
            (["."], "there is no such program"),
            (["-m", "nowhere"], "there is no such module"),
            ([], "expected a program to run"),
            (["--settings", "nowhere.yaml", "agent.py"], "cannot read the settings file"),
        ],
    )
    def test_one_message_and_exit_code_2(self, here: Path, words: list[str], said: str) -> None:
        """The user's mistake is no traceback."""
        done = run(here, *words)
        assert (2, "", True, False) == (done.returncode, done.stdout, said in done.stderr, "Traceback" in done.stderr)

    @pytest.mark.parametrize(("target", "nearest"), [("agent:pln", "plan"), ("__main__:Desk.clse", "close"), ("pay:refnd", "refund")])
    def test_a_target_that_does_not_exist(self, here: Path, target: str, nearest: str) -> None:
        """The nearest is named, before the program starts."""
        (here / "otel-runtime.yaml").write_text(f"otlp: 'off'\ninstrument: ['{target}']\n")
        done = run(here, "agent.py")
        assert (2, "", True) == (done.returncode, done.stdout, f"did you mean `{nearest}`?" in done.stderr), done.stderr
