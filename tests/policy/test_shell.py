from __future__ import annotations

import shutil
import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from otel_runtime.errors import ConfigError
from otel_runtime.policy.commands import may_run, reads_only, runs_only
from otel_runtime.policy.loading import load_policy_text
from otel_runtime.policy.places import Places
from otel_runtime.policy.scope import Scope
from otel_runtime.policy.shell import MAX_COMMAND, read_commands
from otel_runtime.policy.shell_reading import READERS
from otel_runtime.policy.truth import Tri
from otel_runtime.values.action import Action

EVERY_READER = tuple(sorted(READERS))


def reads(command: str, *programs: str) -> Tri:
    return reads_only(programs or EVERY_READER)(command, nowhere())


def nowhere() -> Scope:
    return Scope(Action("tool", "t"), None, datetime(2026, 11, 20, tzinfo=UTC), None, {}, frozenset(), Places())


class TestWords:
    @pytest.mark.parametrize(
        ("text", "commands"),
        [
            ("ls -la", [("ls", "-la")]),
            ("  ls\t-la  ", [("ls", "-la")]),
            ("echo 'a;b|c>d' \"it's\"", [("echo", "a;b|c>d", "it's")]),
            ("echo tou''ch\"x\"", [("echo", "touchx")]),
            ("echo '' \"\"", [("echo", "", "")]),
            ("ls && pwd || true; cat f | wc\npwd", [("ls",), ("pwd",), ("true",), ("cat", "f"), ("wc",), ("pwd",)]),
            ("\n\nls\n\npwd &&\n\nls ;\n", [("ls",), ("pwd",), ("ls",)]),
            ("echo 'a\ntouch x'", [("echo", "a\ntouch x")]),
            ('grep "a\\|b\\s" f', [("grep", "a\\|b\\s", "f")]),
            ("git diff HEAD~1", [("git", "diff", "HEAD~1")]),
            ("echo a=b x=", [("echo", "a=b", "x=")]),
        ],
    )
    def test_understood(self, text: str, commands: list[tuple[str, ...]]) -> None:
        """Plain words, quotes without expansions, and what joins commands are understood."""
        assert tuple(commands) == read_commands(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            " ",
            "\n",
            "ls &&",
            "ls |",
            "| ls",
            "; ls",
            "ls ;; pwd",
            "ls && && pwd",
            "ls & pwd",
            "ls |& cat",
            "ls ||| cat",
            "ls &&& cat",
            "echo $x",
            "echo ${x}",
            'echo "$x"',
            "echo `id`",
            'echo "`id`"',
            "echo $(id)",
            "echo $((1))",
            "echo \\x",
            'echo "\\$x"',
            'echo "\\""',
            'echo "\\\\"',
            'echo "\\`x"',
            'echo "\\!x"',
            'echo "\\\nx"',
            "echo 'x",
            'echo "x',
            "echo x > f",
            "echo x >f",
            "cat < f",
            "cat <<E\nx\nE",
            "cat <<< x",
            "echo x 2>&1",
            "diff <(ls) x",
            "echo {a,b}",
            "echo [ab]",
            "echo *",
            "echo ?",
            "~/x",
            "echo ~",
            "echo ~root",
            "a=1 ls",
            "a=1",
            "a+=1",
            "'a=1'",
            "a'='1 ls",
            "=ls",
            "echo =ls",
            "! ls",
            'echo "!x"',
            "# x",
            "ls # x",
            "ls #x",
            "(ls)",
            "{ ls; }",
            "if true; then ls; fi",
            "for i in a; do ls; done",
            "while true; do ls; done",
            "case x in x) ls;; esac",
            "f() { ls; }",
            "function f",
            "time ls",
            "coproc ls",
            "[[ -f x ]]",
            "[ -f x ]",
            "'' x",
            "ls\r",
            "ls\x00",
            "ls\x0b",
            "ls\xa0x",
            "ls�",
            "echo “x”",
            "ls ^x",
            "x" * (MAX_COMMAND + 1),
        ],
    )
    def test_not_understood(self, text: str) -> None:
        """Everything that could expand, write or run something else is not understood."""
        assert read_commands(text) is None

    @pytest.mark.parametrize("shell", ["bash", "dash"])
    @settings(max_examples=60, deadline=None)
    @given(
        words=st.lists(
            st.text(alphabet=st.sampled_from(list("ab1 ~=%+:,./-_@'\"\\$`!#;&|<>(){}[]*?^\n\té")), min_size=1, max_size=12),
            min_size=1,
            max_size=3,
        )
    )
    @example(words=["a~1", "'b c'", '"d"e'])
    def test_shells_read_the_same(self, shell: str, words: list[str]) -> None:
        """Whatever is understood as one command gives a real shell exactly these words."""
        program = shutil.which(shell)
        command = f"printf '%s\\0' x {' '.join(words)}"
        known = read_commands(command)
        if program is None or known is None or len(known) != 1:
            return
        run = subprocess.run([program, "-c", command], capture_output=True, check=False, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
        assert [word.encode() for word in known[0][2:]] == run.stdout.split(b"\0")[:-1]


class TestRunsOnly:
    check = staticmethod(runs_only(("echo", "ls", "cat")))

    @pytest.mark.parametrize(
        ("command", "outcome"),
        [
            ("ls -la && echo x | cat", True),
            ("ls; touch x", False),
            ("/bin/ls", False),
            ("LS", False),
            ("ls > x", None),
            ("echo `touch x`", None),
            ("touch x > y", None),
            (5, None),
            (["ls"], None),
        ],
    )
    def test_outcomes(self, command: object, outcome: Tri) -> None:
        """True when all are listed, false when one is not, unknown when one cannot be read."""
        assert outcome is self.check(command, nowhere())


class TestMayRun:
    check = staticmethod(may_run(("rm", "curl")))

    @pytest.mark.parametrize(
        ("command", "outcome"),
        [
            ("rm -rf x", True),
            ("/bin/rm x", True),
            ("'r'm x", True),
            ("ls && rm x", True),
            ("ls rm", False),
            ("cp a b && mkdir c", False),
            ("git status", False),
            ("find . -name '*.py' | xargs grep rm", False),
            ("xargs rm", None),
            ("find . -delete", None),
            ("python x.py", None),
            ("./x", None),
            ("git commit -m x", None),
            ("r$x f", None),
            ("ls > x", None),
        ],
    )
    def test_outcomes(self, command: str, outcome: Tri) -> None:
        """True when one could run by name, false when what runs is known and runs nothing else, else unknown."""
        assert outcome is self.check(command, nowhere())


READING = [
    *(
        "ls",
        "ls -la src",
        "ls --color=auto",
        "cat a b",
        "cat -- -x",
        "head -n 5 f",
        "head -20 f",
        "tail -n +5 f",
        "wc -l f",
        "pwd",
        "cd src && ls",
    ),
    *("grep -rn foo src", "grep -e foo --include='*.py' -r .", "grep -A3 foo f", "rg -n foo src", "rg -g '*.py' --hidden foo"),
    *(
        "find . -name '*.py'",
        "find src -type f -maxdepth 2 -print0",
        "find . '(' -name a -o -name b ')' -mtime -1",
        "find . -name x | xargs grep -n foo",
    ),
    *("sed -n 1,5p f", "sed -n '/foo/,/bar/p' f", "sed 's/a/b/g' f", "sed -e 's|a|b|' -e 2d f", "sed -n '$p' f", "sed -n '1p;3p' f"),
    *(
        "sort f",
        "sort -k2,2n -t , f",
        "sort -u --reverse f",
        "uniq -c f",
        "cut -d: -f1 f",
        "tr a-z A-Z",
        "diff -u a b",
        "base64 -d f",
        "base64 f",
    ),
    *(
        "awk '{print $1}' f",
        "awk -F: '{print $1}' /etc/passwd",
        "awk '$1 > 5 {n++}\nEND {print n}' f",
        "tar -tf a.tar",
        "tar tzf a.tgz",
        "tar --list --file=a.tar",
        "env",
        "printf '%s' x",
    ),
    *(
        "git status -sb",
        "git log --oneline -5",
        "git log -p -n 2 -- f",
        "git diff --stat HEAD~1",
        "git show HEAD:f",
        "git blame -L 1,5 f",
        "git branch -a",
    ),
    *(
        "git --no-pager diff",
        "git grep -n foo",
        "git rev-parse --show-toplevel",
        "date +%s",
        "date -u",
        "jq -r .a f",
        "stat -c %s f",
        "du -sh .",
        "tree -L 2",
    ),
]
ACTING = [
    "test -n 'a[0]'",
    *(
        "find . -exec touch x ';'",
        "find . -execdir id ';'",
        "find . -ok id ';'",
        "find . -delete",
        "find . -fprint x",
        "find . -fls x",
        "find . -name -delete",
    ),
    *(
        "sed -i s/a/b/ f",
        "sed --in-place s/a/b/ f",
        "sed -n 1,5p -i f",
        "sed '1e id' f",
        "sed 's/a/b/e' f",
        "sed 's/a/b/w x' f",
        "sed 'w x' f",
        "sed -f x f",
    ),
    *(
        "sed 's/[/]x/e id/' f",
        "sed -n '1r x' f",
        "sed '1!G;h;$!d' f",
        "sed --expression='s/a/id/e' f",
        "sed -e 's/a/b/' -e '1w x' f",
        "sed 's/a/b/ge' f",
    ),
    *(
        "sort -o x f",
        "sort -ox f",
        "sort --output=x f",
        "sort --outp=x f",
        "sort f -o x",
        "sort --compress-program=x f",
        "sort --comp=x f",
        "sort -T x f",
    ),
    *(
        "uniq f x",
        "tar -cf x f",
        "tar -xf x",
        "tar xf x",
        "tar -tf x --to-command=id",
        "tar -tf x --checkpoint-action=exec=id",
        "tar -tI id -f x",
        "tar -tf h:x",
        "tar -t -f a.tar -f host:b.tar",
    ),
    *("tar tf x --use-compress-program=id", "tar -t --file=h:x", "tar --list --rsh-command=id -f x", "tar f x"),
    *(
        "awk 'BEGIN{system(\"id\")}'",
        "awk '{print > \"x\"}' f",
        "awk '{print $1,\n$2 > \"x\"}' f",
        "awk '{print $1 &&\n$2 > \"x\"}' f",
        "awk '{print | \"id\"}' f",
        "awk -f x f",
        "awk '@load \"x\"'",
        "awk -i inplace 1 f",
        "awk '\"id\" | getline'",
    ),
    *(
        "env id",
        "env -i id",
        "env A=1 id",
        "xargs",
        "xargs rm",
        "xargs -I{} sh -c x",
        "xargs -a f rm",
        "xargs sort",
        "xargs -n1 sh -c cat",
        "xargs find",
    ),
    *(
        "git commit -m x",
        "git -c alias.x=!id x",
        "git -c core.pager=id log",
        "git -C /x log",
        "git --exec-path=x log",
        "git --git-dir=x log",
        "git log --output=x",
    ),
    *(
        "git diff --outp=x",
        "git grep -Oid x",
        "git grep --open-files-in-pager=id x",
        "git grep --open=id x",
        "git ls-remote --upload-pack=id .",
        "git diff --ext-diff",
    ),
    *(
        "git branch x",
        "git branch -D x",
        "git tag x",
        "git config a b",
        "git remote add a b",
        "git -p log",
        "git --paginate log",
        "git checkout x",
        "git",
        "git log --textconv",
    ),
    *(
        "rg --pre id x",
        "rg --pre=id x",
        "rg --hostname-bin=id x",
        "rg -z x",
        "rg --search-zip x",
        "base64 --output=x f",
        "base64 -o x f",
        "base64 f x",
    ),
    *(
        "date -s x",
        "date 01010000",
        "date --set=x",
        "printf -v x y",
        "printf %d 'a[x]'",
        "printf",
        "tree -o x",
        "tree -R",
        "diff -l a b",
        "file -C -m x",
        "jq -f x",
    ),
    *(
        "bash -c ls",
        "python x.py",
        "./ls",
        "/bin/ls",
        "nslookup x",
        "touch x",
        "less f",
        "man ls",
        "vi f",
        "cat $x",
        "ls *",
        "echo x >y",
        "tail -f x",
        "date -d",
        "sort -k -o x f",
    ),
]


class TestReadsOnly:
    @pytest.mark.parametrize("command", READING)
    def test_reading(self, command: str) -> None:
        """Ordinary reading is understood."""
        assert reads(command) is True

    @pytest.mark.parametrize("command", ACTING)
    def test_acting(self, command: str) -> None:
        """No option that writes or runs, in any spelling, is taken for reading."""
        assert reads(command) is not True

    def test_not_listed(self) -> None:
        """A program that is not listed is plainly not reading; a listed one with other options is unknown."""
        assert [False, None, True] == [reads(command, "sort", "ls") for command in ("ls; cat x", "sort -o x f", "ls; sort f")]

    def test_listed(self) -> None:
        """Every program that runs must be listed, those that another one starts included."""
        assert [True, False, False] == [
            reads("xargs grep x", *programs) for programs in (("xargs", "grep"), ("xargs", "ls"), ("grep", "ls"))
        ]

    @settings(max_examples=400, deadline=None)
    @given(st.sampled_from(ACTING), st.integers(0, 40), st.sampled_from(list(" '\"\\\n;-=~/.x0")))
    def test_mutated_attacks(self, command: str, at: int, char: str) -> None:
        """Where a character put into an attack makes it pass, the shell agrees: run for real, it writes nothing."""
        mutated = command[:at] + char + command[at:]
        if reads(mutated) is not True:
            return
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "f").write_text("x\n")
            subprocess.run(
                ["bash", "-c", mutated],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
                timeout=30,
                env={"PATH": "/usr/bin:/bin"},
            )
            assert [("f", "x\n")] == [(one.name, one.read_text()) for one in Path(folder).iterdir()]

    @settings(max_examples=400, deadline=None)
    @given(st.text(max_size=60))
    def test_never_raises(self, text: str) -> None:
        """No text raises, and what is not understood is never true."""
        commands = read_commands(text)
        for check in (runs_only(("ls",)), reads_only(EVERY_READER), may_run(("rm",))):
            outcome = check(text, nowhere())
            assert outcome in {True, False, None}
            assert commands is not None or outcome is None


class TestOperands:
    @pytest.mark.parametrize(
        ("test", "words"),
        [
            ("{runs_only: [ls, bash]}", "`bash` runs whatever it is given"),
            ("{runs_only: /usr/bin/env}", "`/usr/bin/env` runs whatever"),
            ("{reads_only: [ls, grpe]}", "did you mean `grep`"),
            ("{reads_only: [python]}", "known: "),
            ("{may_run: ['rm -rf']}", "expected the name of a program"),
            ("{runs_only: []}", "expected"),
        ],
    )
    def test_refused(self, test: str, words: str) -> None:
        """A program that cannot be meant is refused when the policy is loaded."""
        with pytest.raises(ConfigError, match="P016") as raised:
            load_policy_text(f"version: 1\ndefault: deny\nrules:\n  - {{id: r, tool: sh, args: {{command: {test}}}, decision: allow}}\n")
        assert words in str(raised.value)
