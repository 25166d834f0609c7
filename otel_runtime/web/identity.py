"""Who answers: the operating-system user that started the server, never a name that a page or a header sends."""

from __future__ import annotations

import os

__all__ = ["os_user"]


def os_user() -> str:
    """The user's identity, such as `os:alice`, or `os:uid-1000` where the system has no name for it."""
    try:
        import pwd
    except ImportError:
        # Windows has no user database of this kind; the name comes from the logon session.
        return f"os:{os.getlogin()}"
    try:
        # Not getpass.getuser(): that believes LOGNAME and USER, which anyone can set.
        return f"os:{pwd.getpwuid(os.getuid()).pw_name}"
    except KeyError:
        return f"os:uid-{os.getuid()}"
