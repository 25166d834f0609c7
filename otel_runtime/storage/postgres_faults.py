"""PostgreSQL's errors in words a person can act on, and its address without the password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from otel_runtime.errors import StoreError

if TYPE_CHECKING:
    import psycopg

__all__ = ["Address", "address_of", "driver", "store_error", "translated"]

# First prefix of the SQLSTATE that fits wins.
_SENTENCES = (
    (
        "57014",
        "did not answer within {timeout:g} s; look for what holds it up (`select * from pg_stat_activity`), or raise `facts_timeout`",
    ),
    (
        "55P03",
        "holds a lock that was not given up within {timeout:g} s; look for its holder in `pg_stat_activity`, or raise `facts_timeout`",
    ),
    ("28", "refused the user or password; check the URL, PGPASSWORD or ~/.pgpass, and the server's pg_hba.conf"),
    ("3D", "has no such database; create it (`createdb NAME`), or name another one"),
    ("42501", "does not let this user do that; let it create the schema `otel_runtime`, or create that schema and make the user its owner"),
    ("42P01", "lost tables of this program while it ran; restart the program, which makes them anew"),
    ("53300", "has no connection left; raise its `max_connections`, or run fewer processes"),
    ("53100", "cannot grow: its disk is full; nothing was changed; free some space, then try again"),
    ("25006", "takes no writes: it is a standby or read-only; name the primary, such as with `target_session_attrs=read-write`"),
    ("40P01", "gave up on a deadlock; nothing was changed; try again"),
    ("57P", "is shutting down or starting; nothing was changed; try again"),
)
# A connection that is refused has no SQLSTATE in the driver; these are the server's words in its default language.
_WORDS = (
    ("password authentication failed", "28"),
    ("no pg_hba.conf entry", "28"),
    ("no password supplied", "28"),
    ('role "', "28"),
    ("does not exist", "3D"),
    ("too many clients", "53300"),
    ("remaining connection slots", "53300"),
)
_OTHERWISE = "cannot be reached or used; check that it runs and that the URL is right"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a database is.

    Args:
        url: What the driver connects with.
        place: The same for people, without password.
        secret: The password, which no message may hold; empty without one.
        timeout_s: Seconds that one transaction may take.
    """

    url: str
    place: str
    secret: str
    timeout_s: float

    def __repr__(self) -> str:
        return f"Address({self.place!r})"


def driver() -> None:
    """Make sure that psycopg is there.

    Raises:
        StoreError: It is not installed.
    """
    try:
        import psycopg  # noqa: F401  # only programs that use PostgreSQL pay for it
    except ImportError as error:
        raise StoreError("a PostgreSQL store needs the extra `postgres`: pip install 'otel-runtime[postgres]'") from error


def address_of(url: str, timeout_s: float) -> Address:
    """Understand a URL.

    Raises:
        StoreError: psycopg is missing, or this is no URL it understands; the text is not repeated, because it may hold a password.
    """
    driver()
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        parts = {}
    if not url.startswith(("postgresql://", "postgres://")) or not parts:
        raise StoreError(
            "the URL of the PostgreSQL store cannot be understood; expected postgresql://USER@HOST:PORT/DATABASE, with other characters "
            "than letters and digits written as %XX (`@` is %40)"
        )
    host = parts.get("host") or parts.get("hostaddr") or "localhost"
    port = f":{parts['port']}" if parts.get("port") else ""
    return Address(url, f"postgresql://{host}{port}/{parts.get('dbname') or ''}", str(parts.get("password") or ""), timeout_s)


def store_error(address: Address, error: psycopg.Error | TimeoutError) -> StoreError:
    """The `StoreError` for an error of the driver, with the place and how to mend it."""
    said = " ".join(str(error).split())
    state = "57014" if isinstance(error, TimeoutError) else error.sqlstate or next((code for words, code in _WORDS if words in said), "")
    sentence = next((text for prefix, text in _SENTENCES if state.startswith(prefix)), _OTHERWISE)
    if address.secret:
        said = said.replace(address.secret, "***")
    detail = f" ({' '.join(part for part in (state if state[:2] != '57' else '', said) if part)[:300]})" if said else ""
    return StoreError(f"the database `{address.place}` {sentence.format(timeout=address.timeout_s)}{detail}", path=address.place)


@contextmanager
def translated(address: Address) -> Iterator[None]:
    """Turn every error of the driver inside into a `StoreError`.

    Raises:
        StoreError: The driver or the server failed.
    """
    import psycopg

    try:
        yield
    except (psycopg.Error, TimeoutError) as error:
        # The original may show the address: it is left out of the chain on purpose.
        raise store_error(address, error) from None
