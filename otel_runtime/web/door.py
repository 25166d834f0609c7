"""Who may come in: host allow-list, session cookie, origin and CSRF checks. Pure apart from the random numbers it is given.

The server listens on the loopback interface, yet every web page in the same browser can send requests there. So: the Host header must
be ours (DNS rebinding); the token printed at start is exchanged for a cookie that scripts cannot read and that other sites' requests do
not carry; a change needs the same Origin and a CSRF token bound to the session.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping

__all__ = ["Door", "own_hosts"]

_SESSIONS = 64


def own_hosts(host: str, port: int) -> frozenset[str]:
    """Values of the `Host` header that name this server.

    Args:
        host: The loopback address, as it stands in an address bar.
        port: The port it listens on.
    """
    names = (host.lower(), "localhost")
    # Clients leave out the port that http has by itself.
    return frozenset([f"{name}:{port}" for name in names] + ([*names] if port == 80 else []))


class Door:
    """Checks requests; knows the sessions that were let in.

    Args:
        token: The secret in the printed URL.
        key: Key of the CSRF tokens, random per start.
        port: Port the server listens on.
        host: The loopback address it listens on, as it stands in an address bar.
        new_session: Makes a random session id.
    """

    def __init__(self, token: str, key: bytes, port: int, new_session: Callable[[], str], host: str = "127.0.0.1") -> None:
        self._token = token.encode()
        self._key = key
        self._new_session = new_session
        self._sessions: OrderedDict[str, None] = OrderedDict()
        self.hosts: frozenset[str] = own_hosts(host, port)
        # Cookies know no ports: two inboxes of one machine must not overwrite each other's.
        self.cookie: str = f"otel-runtime-inbox-{port}"

    def host_allowed(self, host: str | None) -> bool:
        """True when the Host header is this server's own."""
        return host is not None and host.lower() in self.hosts

    def exchange(self, token: str) -> str | None:
        """A session for the printed token; None when the token is wrong."""
        if not hmac.compare_digest(token.encode("utf-8", "replace"), self._token):
            return None
        session = self._new_session()
        self._sessions[session] = None
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)
        return session

    def session_of(self, cookies: Mapping[str, str]) -> str | None:
        """The session of a request; None when it has none that was let in."""
        session = cookies.get(self.cookie, "")
        # Compared in constant time with each: a lookup in a dict may tell how much of an id was right.
        return next((known for known in self._sessions if hmac.compare_digest(known.encode(), session.encode("utf-8", "replace"))), None)

    def csrf(self, session: str) -> str:
        """The token that forms of this session carry."""
        return hmac.new(self._key, f"csrf:{session}".encode(), hashlib.sha256).hexdigest()

    def may_change(self, session: str, headers: Mapping[str, str], csrf: str) -> str:
        """Why a change is refused; empty when it may go on.

        Args:
            session: From `session_of`.
            headers: Request headers, names in lower case.
            csrf: What the form sent.
        """
        origin = headers.get("origin", "").lower()
        if origin.removeprefix("http://") not in self.hosts or not origin.startswith("http://"):
            return "the request comes from another page; open the inbox itself"
        if headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return "the request comes from another site; open the inbox itself"
        if not hmac.compare_digest(csrf.encode("utf-8", "replace"), self.csrf(session).encode()):
            return "the form is from an earlier start of the server; reload the page"
        return ""
