"""Values in languages of their own, and what a person says each one is; the reference looks here instead of reading them again.

`READ[operator](operand, value)` is True, False or None (unknown). Values that are not in a table are unknown to every operator here, and the
tests never use one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Tri = bool | None

# Address -> its domain; None where a mail server could take it for something else.
ADDRESSES: Mapping[str, str | None] = {
    "bob@corp.example": "corp.example",
    "BOB@CORP.EXAMPLE": "corp.example",
    "o'neil+tag@corp.example": "corp.example",
    "eve@evil.example": "evil.example",
    "x@sub.corp.example": "sub.corp.example",
    "bob@corp.example.evil.example": "corp.example.evil.example",
    "bob@corp.example, eve@evil.example": None,
    "Bob <bob@corp.example>": None,
    '"a b"@corp.example': None,
    "bob@corp.example\n": None,
    "bob%evil.example@corp.example": None,
    "bob@[127.0.0.1]": None,
    "bob": None,
    "": None,
}

# URL -> scheme, host, port, path; None where clients disagree. A path of None is one that servers could read differently.
URLS: Mapping[str, tuple[str, str, int | None, str | None] | None] = {
    "https://api.example.com/v1/orders?id=7": ("https", "api.example.com", 443, "/v1/orders"),
    "HTTPS://API.example.com:443": ("https", "api.example.com", 443, "/"),
    "http://api.example.com:8080/v1/x#f": ("http", "api.example.com", 8080, "/v1/x"),
    "https://a.b.docs.example.com/health": ("https", "a.b.docs.example.com", 443, "/health"),
    "https://docs.example.com/": ("https", "docs.example.com", 443, "/"),
    "https://api.example.com.evil.example/v1/": ("https", "api.example.com.evil.example", 443, "/v1/"),
    "https://127.0.0.1/x": ("https", "127.0.0.1", 443, "/x"),
    "https://[::1]/x": ("https", "[::1]", 443, "/x"),
    "https://api.example.com/v1/../admin": ("https", "api.example.com", 443, None),
    "https://api.example.com/v1/%2e%2e/admin": ("https", "api.example.com", 443, None),
    "gopher://api.example.com/x": ("gopher", "api.example.com", None, "/x"),
    "https://api.example.com@evil.example/": None,
    "https://api.example.com\\@evil.example/": None,
    "https://0x7f.1/": None,
    "https://2130706433/": None,
    "https://api.example.com./": None,
    "https://api.exa mple.com/": None,
    "//api.example.com/": None,
    "https:/api.example.com/": None,
    "": None,
}

# Command -> for each of its commands: the word that names the program, the programs it runs with options that only read (None: not known to),
# and whether the program is known to run nothing else. None where shells disagree.
COMMANDS: Mapping[str, tuple[tuple[str, frozenset[str] | None, bool], ...] | None] = {
    "ls -la": (("ls", frozenset({"ls"}), False),),
    "cat a.txt | grep -n foo": (("cat", frozenset({"cat"}), False), ("grep", frozenset({"grep"}), False)),
    "ls; rm -rf x": (("ls", frozenset({"ls"}), False), ("rm", None, True)),
    "/bin/rm x": (("/bin/rm", None, False),),
    "sort -o out in": (("sort", None, False),),
    "git status && git log -5": (("git", frozenset({"git"}), False), ("git", frozenset({"git"}), False)),
    "git push": (("git", None, False),),
    "make test": (("make", None, False),),
    "find . -name '*.py' | xargs grep foo": (("find", frozenset({"find"}), False), ("xargs", frozenset({"xargs", "grep"}), False)),
    "find . -delete": (("find", None, False),),
    "mkdir d": (("mkdir", None, True),),
    "x": (("x", None, False),),
    "echo $(rm x)": None,
    "echo hi > f": None,
    "X=1 ls": None,
    "ls *": None,
    "ls &": None,
    "": None,
}

# Query -> schemas of its tables and functions it calls; None where it is not one plain SELECT in PostgreSQL.
QUERIES: Mapping[str, tuple[frozenset[str], frozenset[str]] | None] = {
    "select a from app.t": (frozenset({"app"}), frozenset()),
    "SELECT count(*) FROM app.t WHERE a = 'x'": (frozenset({"app"}), frozenset({"count"})),
    "select lower(a) from app.t join crm.u on t.id = u.id": (frozenset({"app", "crm"}), frozenset({"lower"})),
    "with x as (select a from app.t) select a from x": (frozenset({"app"}), frozenset()),
    "select a from secret.t": (frozenset({"secret"}), frozenset()),
    "select a from app.t union select b from secret.u": (frozenset({"app", "secret"}), frozenset()),
    "select a from t": None,
    "delete from app.t": None,
    "select a from app.t; drop table app.t": None,
    "select a from app.t -- x": None,
    "select pg_sleep(9) from app.t": (frozenset({"app"}), frozenset({"pg_sleep"})),
    "select a into app.u from app.t": None,
    # PostgreSQL takes it: one row without columns.
    "select": (frozenset(), frozenset()),
    "x": None,
    "": None,
}
PREDICATES: Mapping[str, Tri] = {"operator:ne": True, "operator:eq": False, "operator:truediv": None}

# Path -> the name it has when `..` and `.` are taken away as text, and where it leads for each way of reading it, below the root of the test;
# None where it leads nowhere that can be told. `/etc/passwd` and what lies beside the root stand as they are.
PATHS: Mapping[str, tuple[str, tuple[str, ...]] | None] = {
    "data/a.txt": ("data/a.txt", ("data/a.txt",)),
    "./data//b/../a.txt": ("data/a.txt", ("data/a.txt",)),
    "ROOT/data/new/deep.txt": ("data/new/deep.txt", ("data/new/deep.txt",)),
    "data": ("data", ("data",)),
    "x": ("x", ("x",)),
    "data.bak/a.txt": ("data.bak/a.txt", ("data.bak/a.txt",)),
    "data/link/x.pem": ("data/link/x.pem", ("out/x.pem",)),
    "data/link/../a.txt": ("data/a.txt", ("a.txt", "data/a.txt")),
    "out/x.pem": ("out/x.pem", ("out/x.pem",)),
    "DATA/a.txt": ("DATA/a.txt", ("DATA/a.txt",)),
    "data/.env": ("data/.env", ("data/.env",)),
    "data/.ENV": ("data/.ENV", ("data/.ENV",)),
    "data/.env.": ("data/.env.", ("data/.env.",)),
    "data/alias": ("data/alias", ("out/key.pem",)),
    "../other/a.txt": ("../other/a.txt", ("../other/a.txt",)),
    "/etc/passwd": ("/etc/passwd", ("/etc/passwd",)),
    "policy.yaml": ("policy.yaml", ("policy.yaml",)),
    "~/a.txt": None,
    "$HOME/a.txt": None,
    "data\\a.txt": None,
    "file:///etc/passwd": None,
    "/proc/self/environ": None,
    "data/\x00.txt": None,
    "": None,
}
PROTECTED = "policy.yaml"
NAMES = (".env", "*.pem", "a.txt")


def make_tree(root: Path) -> None:
    """The files that `PATHS` speaks of."""
    for folder in ("data/b", "out", "data.bak"):
        (root / folder).mkdir(parents=True)
    for name in ("data/a.txt", "out/key.pem", "a.txt", PROTECTED):
        (root / name).write_text("x")
    (root / "data" / "link").symlink_to(root / "out")
    (root / "data" / "alias").symlink_to(root / "out" / "key.pem")


def read_tables(root: Path) -> dict[str, Any]:
    """What stands above, as functions of operand and value; `ROOT` in paths is this folder."""
    here = str(root)
    paths = {text.replace("ROOT", here): told for text, told in PATHS.items()}

    def within(path: str, folder: str) -> bool:
        return path == folder or path.startswith(f"{folder}/")

    def at(path: str) -> str:
        return path if path.startswith("/") else str((root.parent if path.startswith("../") else root) / path.removeprefix("../"))

    def under(operand: Any, value: str) -> Tri:
        told = paths.get(value)
        if told is None or told[1] == (PROTECTED,):
            return None
        answers = set()
        for real in told[1]:
            one: list[Tri] = []
            for folder in operand if isinstance(operand, list) else [operand]:
                where = here if folder == "workspace:" else str(root / folder.removeprefix("workspace:"))
                inside = within(at(real), where)
                doubt = within(at(told[0]), where) or within(at(real).lower(), where.lower())
                one.append(True if inside else None if doubt else False)
            answers.add(_some(one))
        return answers.pop() if len(answers) == 1 else None

    def file_name(operand: Any, value: str) -> Tri:
        told = paths.get(value)
        if told is None:
            return None
        patterns = operand if isinstance(operand, list) else [operand]
        answers = set()
        for path in (told[0], *told[1]):
            name = path.rpartition("/")[2]
            plain = any(_named(name, pattern) for pattern in patterns)
            loose = any(_named(name.lower().rstrip(". "), pattern.lower()) for pattern in patterns)
            answers.add(True if plain else None if loose else False)
        return answers.pop() if len(answers) == 1 else None

    return {**_READ, "under": under, "file_name": file_name, "when": PREDICATES}


def _named(name: str, pattern: str) -> bool:
    return name.endswith(pattern[1:]) if pattern.startswith("*") else name == pattern


def _some(values: list[Tri]) -> Tri:
    return True if True in values else None if None in values else False


def _every(values: list[Tri]) -> Tri:
    return False if False in values else None if None in values else True


def _listed(operand: Any) -> list[Any]:
    return operand if isinstance(operand, list) else [operand]


def _email(operand: Any, value: str) -> Tri:
    domain = ADDRESSES.get(value)
    return None if domain is None else domain in _listed(operand)


def _url(operand: Any, value: str) -> Tri:
    told = URLS.get(value)
    if told is None:
        return None
    scheme, host, port, path = told
    answers: list[Tri] = []
    for part, wanted in operand.items():
        if part == "scheme":
            answers.append(scheme in _listed(wanted))
        elif part == "host":
            answers.append(any(host.endswith(one[1:]) if one.startswith("*") else host == one for one in _listed(wanted)))
        elif part == "port":
            answers.append(None if port is None else port in _listed(wanted))
        else:
            fits = [path.startswith(one[:-1]) if one.endswith("/*") else path == one for one in _listed(wanted)] if path is not None else []
            answers.append(None if path is None else any(fits))
    return _every(answers)


def _commands(
    ask: Callable[[str, frozenset[str] | None, bool, set[str]], Tri], fold: Callable[[list[Tri]], Tri]
) -> Callable[[Any, str], Tri]:
    def asked(operand: Any, value: str) -> Tri:
        told = COMMANDS.get(value)
        return None if told is None else fold([ask(*one, set(_listed(operand))) for one in told])

    return asked


def _reads(name: str, programs: frozenset[str] | None, _quiet: bool, listed: set[str]) -> Tri:
    return False if name not in listed else None if programs is None else programs <= listed


def _may(name: str, programs: frozenset[str] | None, quiet: bool, listed: set[str]) -> Tri:
    if name.rpartition("/")[2] in listed:
        return True
    known = {name} if quiet else programs
    return None if known is None else bool(set(known) & listed)


def _sql(operand: Any, value: str) -> Tri:
    told = QUERIES.get(value)
    if told is None or not told[1] <= set(_listed(operand.get("functions", []))):
        return None
    return told[0] <= set(_listed(operand["schemas"]))


_READ: Mapping[str, Any] = {
    "email_domain": _email,
    "url": _url,
    "runs_only": _commands(lambda name, _programs, _quiet, listed: name in listed, _every),
    "reads_only": _commands(_reads, _every),
    "may_run": _commands(_may, _some),
    "sql": _sql,
}
