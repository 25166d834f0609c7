"""`sql`: is this one query that only reads the tables of these schemas and calls only these functions?

sqlglot parses; what it makes of the text is believed only where nothing else could be made of it: no comments, backslashes, dollar quotes
or control characters (but what `'...'` holds is text), a tree of listed node types only, and, read from the tokens alone, no call of a function that is not listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from otel_runtime.policy.truth import Tri

if TYPE_CHECKING:
    from otel_runtime.policy.scope import Scope
    from otel_runtime.policy.terms import SqlTerms

__all__ = ["MAX_SQL", "dialects", "sql"]

MAX_SQL: Final = 4096
_MAX_TOKENS: Final = 600
_MAX_DEPTH: Final = 12
# Escapes, which dialects disagree about, what templates and Hive replace before anybody parses, and what is not printable.
_NEVER: Final = re.compile(r"[\\{}]|[^\n\t -~\u00a1-\ud7ff\ue000-\ufffd]")
# Comments of every dialect (some are executed), and quotes that dialects disagree about.
_STRANGE: Final = re.compile(r"--|/\*|\*/|[#$`\[\]@?]")
# Every dialect ends a text without escapes at the next quote. Not plain: what has a letter in front (`q'[...]'`), or quotes in threes.
_TEXTS: Final = re.compile(r"""("[^"]*"|[\w&]'[^']*')|'[^']*'""")
_THREES: Final = re.compile(r"'''|\"\"\"")
# A name in front of a parenthesis is a call, except for these words of the language.
_WORDS: Final = frozenset(
    "all and any as between by case cast cross distinct else except exists filter from full group having in inner intersect is join lateral left like "
    "ilike limit natural not null offset on or order outer over partition right select some then union using when where with within".split()
)
_NODES: Final = (
    "Select From Where Table TableAlias Column Identifier Star Literal Null Boolean Paren Tuple Alias Aliases Subquery With CTE Join Group Having "
    "Order Ordered Limit Offset Fetch Distinct Union Except Intersect And Or Not EQ NEQ GT GTE LT LTE Is In Between Like ILike Neg Add Sub Mul Div "
    "Mod DPipe NullSafeEQ NullSafeNEQ Escape Exists Any All Case If Cast DataType DataTypeParam Window WindowSpec Interval Var Filter"
).split()
# There `SELECT 1 SHUTDOWN` is two statements, and a parser that does not know takes the second for a name.
_WITHOUT_SEPARATORS: Final = frozenset({"tsql", "fabric"})
# A sequence's next number is written like a column.
_CHANGES: Final = frozenset({"nextval"})
# Plain data types; others, such as postgres' regclass, look something up.
_TYPES: Final = frozenset(
    "BIGINT BOOLEAN CHAR DATE DECIMAL DOUBLE FLOAT INT INTERVAL NCHAR NVARCHAR SMALLINT TEXT TIME TIMESTAMP TIMESTAMPTZ TINYINT UUID VARCHAR".split()
)
# As written in front of their sizes: `numeric(10, 2)`.
_TYPE_WORDS: Final = _TYPES | {"NUMERIC", "DEC"}


def _strange(text: str) -> bool:
    """Whether readers could take it differently; what stands in plain texts, such as an address, says nothing to any of them."""
    if _NEVER.search(text) is not None:
        return True
    bare = text if _THREES.search(text) is not None else _TEXTS.sub(lambda quoted: quoted.group(1) or "''", text)
    return _STRANGE.search(bare) is not None


@lru_cache(maxsize=1)
def _sqlglot() -> ModuleType:
    try:
        import sqlglot
    except ImportError:
        raise ValueError("`sql` needs sqlglot, which is not installed; pip install 'otel-runtime[sql]'") from None
    # It logs every odd statement; here they are simply unknown.
    import logging

    logging.getLogger("sqlglot").addHandler(logging.NullHandler())
    logging.getLogger("sqlglot").propagate = False
    return sqlglot


def dialects() -> frozenset[str]:
    """The dialects that can be read.

    Raises:
        ValueError: sqlglot is not installed.
    """
    return frozenset(str(one.value) for one in _sqlglot().Dialects) - {""} - _WITHOUT_SEPARATORS


def sql(operand: object) -> Callable[[object, Scope], Tri]:
    """Whether the text is one query on these terms."""
    terms: SqlTerms = operand  # type: ignore[assignment]  # the model admits nothing else
    reader = _Reader(terms.dialect, frozenset(terms.schemas), frozenset(name.lower() for name in terms.functions or ()))

    def check(value: object, scope: Scope) -> Tri:
        if not isinstance(value, str):
            return None
        # Each rule has terms of its own; what a dialect makes of the text is the same for all of them.
        query = scope.once(("sql", terms.dialect, value), 60 + 5 * min(len(value), MAX_SQL), partial(_parsed, terms.dialect, value))
        return None if query is None else scope.once(("sql", id(reader), value), 2 * len(query.tokens), partial(reader.asks, query))

    return check


class _Query(NamedTuple):
    """One statement, of bounded length and depth.

    Args:
        tokens: Its tokens.
        tree: What the parser made of them.
    """

    tokens: list[Any]
    tree: Any


def _parsed(dialect: str, text: str) -> _Query | None:
    """The text as one statement; None when it is none, or could be read in two ways."""
    if len(text) > MAX_SQL or _strange(text):
        return None
    library = _sqlglot()
    reads = library.Dialect.get_or_raise(dialect)
    try:
        tokens = reads.tokenize(text)
        if not _bounded(tokens):
            return None
        trees = [tree for tree in reads.parser().parse(tokens, text) if tree is not None]
    except (library.errors.SqlglotError, RecursionError, ValueError, IndexError, AttributeError, KeyError, TypeError):
        # Whatever its parser stumbles over is not understood.
        return None
    return _Query(tokens, trees[0]) if len(trees) == 1 else None


def _bounded(tokens: list[Any]) -> bool:
    """One statement, neither too long nor too deep."""
    if not tokens or len(tokens) > _MAX_TOKENS or any(token.comments for token in tokens):
        return False
    depth = 0
    for at, token in enumerate(tokens):
        kind = token.token_type.name
        if kind == "SEMICOLON" and at != len(tokens) - 1:
            return False
        depth += (kind == "L_PAREN") - (kind == "R_PAREN")
        if depth > _MAX_DEPTH:
            return False
    return True


class _Reader:
    """Reads queries of one dialect."""

    def __init__(self, dialect: str, schemas: frozenset[str], functions: frozenset[str]) -> None:
        library = _sqlglot()
        self._exp: Any = library.exp
        self._dialect: Any = library.Dialect.get_or_raise(dialect)
        self._errors: Any = library.errors.SqlglotError
        self._schemas = schemas
        self._functions = functions
        self._nodes = frozenset(getattr(library.exp, name) for name in _NODES)
        self._calls = frozenset(kind for name in functions for kind in self._spellings(name))

    def _spellings(self, function: str) -> Iterator[type[Any]]:
        """The node types a call of the function becomes, which differ by dialect and arguments."""
        for arguments in ("", "()", "(*)", "(a)", "(a, b)", "('day', a)", "(a, b, c)", "(a, b, c, d)"):
            try:
                (tree,) = self._dialect.parse(f"SELECT {function}{arguments}")
            except self._errors:
                continue
            yield from (type(node) for node in tree.find_all(self._exp.Func) if not isinstance(node, self._exp.Anonymous))

    def asks(self, query: _Query) -> Tri:
        """True for a query on the terms, False for one on tables of other schemas, else unknown."""
        return self._tree(query.tree) if self._calls_only_listed(query.tokens) else None

    def _calls_only_listed(self, tokens: list[Any]) -> bool:
        """Read from the tokens alone, whatever the tree says."""
        texts = [token.text.lower() for token in tokens]
        return all(
            self._may_open(tokens[at - 1].token_type.name, texts[at - 1], "".join(texts[max(0, at - 2) : at - 1]))
            for at, token in enumerate(tokens)
            if at and token.token_type.name == "L_PAREN"
        )

    def _may_open(self, kind: str, text: str, before: str) -> bool:
        """Whether a parenthesis behind this token opens something harmless."""
        if not (text[:1].isalnum() or text[:1] == "_" or not text.isascii()) and kind not in {"IDENTIFIER", "STRING"}:
            return True
        return (
            kind not in {"IDENTIFIER", "STRING"}
            and before != "."
            and (text in _WORDS or text in self._functions or text.upper() in _TYPE_WORDS)
        )

    def _tree(self, root: Any) -> Tri:
        exp = self._exp
        if not isinstance(root, exp.Query) or isinstance(root, exp.Table):
            return None
        outcome: Tri = True
        shared = {part.alias.lower() for part in root.find_all(exp.CTE)}
        for node in root.walk():
            if not self._known(node):
                return None
            if isinstance(node, exp.Table):
                inside = self._inside(node, shared)
                if inside is None:
                    return None
                outcome = outcome and inside
        return outcome

    def _known(self, node: Any) -> bool:
        exp = self._exp
        if type(node) not in self._nodes:
            return type(node) in self._calls or (isinstance(node, exp.Anonymous) and node.name.lower() in self._functions)
        # INTO, FOR UPDATE, hints and samples are nodes of their own, which are not listed; these two are made of listed ones.
        if node.args.get("settings") or node.args.get("format"):
            return False
        if isinstance(node, exp.Column) and node.name.lower() in _CHANGES:
            return False
        return not isinstance(node, exp.DataType) or getattr(node.this, "name", "") in _TYPES

    def _inside(self, table: Any, shared: set[str]) -> Tri:
        exp = self._exp
        # `app.INFORMATION_SCHEMA.TABLES` may come as one name.
        if not isinstance(table.this, exp.Identifier) or table.args.get("catalog") or "." in table.name:
            return None
        schema = table.args.get("db")
        if schema is None:
            return True if table.name.lower() in shared else None
        if not isinstance(schema, exp.Identifier):
            return None
        name = schema.name if schema.args.get("quoted") else schema.name.lower()
        if name in self._schemas:
            return True
        # Dialects that ignore case would find the schema.
        return None if name.lower() in {one.lower() for one in self._schemas} else False
