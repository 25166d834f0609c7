"""Does a command only read? The programs it runs if so; None where it could write, or run something that is not understood."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from otel_runtime.policy.regexes import compile_regex
from otel_runtime.policy.shell_options import Options, Parsed, is_option
from otel_runtime.policy.shell_programs import GIT, PLAIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_runtime.policy.shell import Command

__all__ = ["READERS", "programs_of"]

_Analysis = Callable[[Sequence[str]], frozenset[str] | None]
_NOTHING_ELSE: Final[frozenset[str]] = frozenset()


def programs_of(command: Command) -> frozenset[str] | None:
    """The program of a command that only reads, and those it runs itself."""
    program, words = command[0], command[1:]
    special = _SPECIAL.get(program)
    if special is not None:
        more = special(words)
        return None if more is None else more | {program}
    options = PLAIN.get(program)
    return frozenset({program}) if options is not None and options.parse(words) is not None else None


def _only(understood: bool) -> frozenset[str] | None:
    return _NOTHING_ELSE if understood else None


def _echo(_words: Sequence[str]) -> frozenset[str] | None:
    return _NOTHING_ELSE


def _test(words: Sequence[str]) -> frozenset[str] | None:
    # `-v` and numbers evaluate what stands in brackets.
    return _only(all(not is_option(word) or word in _TEST_BARE for word in words) and not any("[" in word for word in words))


def _printf(words: Sequence[str]) -> frozenset[str] | None:
    # `-v` assigns, and zsh evaluates what stands for a number.
    return _only(bool(words) and not words[0].startswith("-") and re.fullmatch(r"(?:[^%]|%%|%-?[0-9]*s)*", words[0]) is not None)


def _date(words: Sequence[str]) -> frozenset[str] | None:
    # Any other operand sets the clock.
    parsed = PLAIN["date"].parse(words)
    return _only(parsed is not None and all(word.startswith("+") for word in parsed.operands))


def _env(words: Sequence[str]) -> frozenset[str] | None:
    return _only(not words)


_TEST_BARE: Final = frozenset("-e -f -d -r -w -x -s -L -h -n -z".split())
_FIND_BARE: Final = frozenset(
    "-a -and -daystart -depth -empty -executable -false -follow -L -H -P -ls -mount -noleaf -not -o -or -print -print0 -prune -quit -readable "
    "-true -warn -nowarn -writable -xdev -nogroup -nouser ! ( ) ,".split()
)
_FIND_VALUED: Final = frozenset(f"-newer{one}{other}" for one in "aBcm" for other in "aBcmt") | frozenset(
    "-amin -anewer -atime -cmin -cnewer -ctime -gid -group -ilname -iname -inum -ipath -iregex -iwholename -links -lname -maxdepth -mindepth "
    "-mmin -mtime -name -newer -path -perm -printf -regex -regextype -samefile -size -type -uid -used -user -wholename -xtype".split()
)


def _find(words: Sequence[str]) -> frozenset[str] | None:
    rest = list(words)[::-1]
    while rest:
        word = rest.pop()
        if word in _FIND_VALUED:
            # Where a `find` of another kind takes no value here, the next word must not be an action.
            if not rest or is_option(rest.pop()):
                return None
        elif word not in _FIND_BARE and word.startswith(("-", "(", ")", "!")):
            return None
    return _NOTHING_ELSE


# Addresses and the commands p, d, q, = and s without its flags `e` (execute) and `w` (write). Brackets only where nothing can be taken for
# their end or for the delimiter: programs disagree on whether that counts inside of them.
_SED_BRACKET: Final = r"\[\^?(?:[^\]\\\[\n{0}]|\[:[a-z]+:\])+\]"
_SED_BODY: Final = rf"(?:[^\\\n\[{{0}}]|\\[^\n]|{_SED_BRACKET})*"
_SED_ADDRESS: Final = rf"(?:[0-9]+|\$|/{_SED_BODY.format('/')}/I?)"
_SED_SWAP: Final = "|".join(
    rf"s{mark}{_SED_BODY.format(mark)}{mark}{_SED_BODY.format(mark)}{mark}[gpiI0-9]*" for mark in ("/", r"\|", "#", ",", "@", ":")
)
_SED_ONE: Final = rf"\s*(?:{_SED_ADDRESS}(?:,\s*\+?{_SED_ADDRESS})?)?\s*!?(?:p|d|q|=|{_SED_SWAP})\s*"
_SED: Final = compile_regex(rf"{_SED_ONE}(?:[;\n]{_SED_ONE})*;?")
_SED_OPTIONS: Final = Options(
    "nErsuz",
    "e",
    frozenset(["quiet", "silent", "regexp-extended", "separate", "unbuffered", "null-data", "posix"]),
    frozenset(["expression"]),
)
_MAX_SCRIPT: Final = 512


def _sed(words: Sequence[str]) -> frozenset[str] | None:
    parsed = _SED_OPTIONS.parse(words)
    if parsed is None:
        return None
    scripts = parsed.all("e", "expression") or list(parsed.operands[:1])
    return _only(bool(scripts) and all(len(script) <= _MAX_SCRIPT and _SED.full(script) is True for script in scripts))


# Whatever awk writes to, runs or loads needs one of these; `>` compares, too.
_AWK_TEXT: Final = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
# Expressions between slashes, comments, open texts and continued lines may hold what looks like the end of a statement.
_AWK_UNCLEAR: Final = re.compile(r'[/#"\\|@`]|system|getline', re.IGNORECASE)
# Not at the end of a line: behind `,`, `&&` and in other places a statement goes on in the next one.
_AWK_STATEMENT: Final = re.compile(r"[{};]")
_AWK_ACTS: Final = re.compile(r"[|>@`]|system|getline", re.IGNORECASE)
_AWK_OPTIONS: Final = Options("", "Fv")


def _awk(words: Sequence[str]) -> frozenset[str] | None:
    # Operands end awk's options: what stands behind the script is data, and may begin with a dash.
    parsed = _AWK_OPTIONS.parse(words)
    if parsed is None or not parsed.operands or any(word.startswith("/inet") for word in parsed.operands[1:]):
        return None
    return _only(_AWK_ACTS.search(_compared(parsed.operands[0])) is None)


def _compared(script: str) -> str:
    """The script without the `>` of comparisons: those in statements that print nothing, where it is plain what a statement is."""
    bare = _AWK_TEXT.sub("", script)
    if _AWK_UNCLEAR.search(bare) is not None:
        return script
    compares = ">>" not in bare and all("print" not in part for part in _AWK_STATEMENT.split(bare) if ">" in part)
    return bare.replace(">", "") if compares else script


def _git(words: Sequence[str]) -> frozenset[str] | None:
    rest = list(words)
    while rest and rest[0] in {"--no-pager", "-P", "--no-optional-locks", "--literal-pathspecs"}:
        rest.pop(0)
    options = GIT.get(rest[0]) if rest else None
    return _only(options is not None and options.parse(rest[1:]) is not None)


_TAR_OPTIONS: Final = Options(
    "tvzjJa",
    "fC",
    frozenset(["list", "verbose", "gzip", "bzip2", "xz", "auto-compress", "force-local"]),
    frozenset(["file", "directory", "exclude"]),
)


def _tar(words: Sequence[str]) -> frozenset[str] | None:
    # The old style has no dash in front of its letters.
    parsed = _TAR_OPTIONS.parse([f"-{words[0]}", *words[1:]] if words and not words[0].startswith("-") else words)
    return _only(parsed is not None and _lists(parsed))


def _lists(parsed: Parsed) -> bool:
    # tar starts a remote shell for an archive with a colon in its name.
    return bool(parsed.given & {"t", "list"}) and not any(":" in archive for archive in parsed.all("f", "file"))


_XARGS_OPTIONS: Final = Options(
    "0rt",
    "nLPsdE",
    frozenset(["null", "no-run-if-empty", "verbose", "exit"]),
    frozenset(["max-args", "max-lines", "max-procs", "delimiter"]),
)
# Whatever words their input adds, options included, these only read.
_HARMLESS: Final = frozenset("basename cat cut dirname du echo egrep fgrep grep head ls md5sum nl sha1sum sha256sum stat tail wc".split())


def _xargs(words: Sequence[str]) -> frozenset[str] | None:
    at = next((at for at, word in enumerate(words) if word in _HARMLESS), None)
    if at is None:
        return None
    parsed = _XARGS_OPTIONS.parse(words[:at])
    return programs_of(tuple(words[at:])) if parsed is not None and not parsed.operands else None


_SPECIAL: Final[Mapping[str, _Analysis]] = MappingProxyType(
    {
        "awk": _awk,
        "date": _date,
        "echo": _echo,
        "env": _env,
        "expr": _echo,
        "find": _find,
        "free": _echo,
        "git": _git,
        "groups": _echo,
        "printf": _printf,
        "ps": _echo,
        "sed": _sed,
        "seq": _echo,
        "sleep": _echo,
        "tar": _tar,
        "test": _test,
        "uptime": _echo,
        "who": _echo,
        "xargs": _xargs,
    }
)
READERS: Final[frozenset[str]] = frozenset({*PLAIN, *_SPECIAL})
