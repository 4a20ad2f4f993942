"""Bus URLs as text: the store they name, and how they may be shown: never with a password. Pure."""

from __future__ import annotations

from urllib.parse import unquote


def query_of(url: str) -> tuple[str, str]:
    """Return the key and the value of the one thing after ``?`` that a bus URL may have: ``store=URL``.

    A store's URL may stand there as it is, its own ``%`` and ``&`` included, or percent-encoded.
    """
    key, _, value = url.partition("?")[2].partition("=")
    return key, value if "://" in value else unquote(value)


def public_url(url: str) -> str:
    """Return a bus URL for logs, displays and messages: user, password and options are left out."""
    base, (key, store) = url.partition("?")[0], query_of(url)
    scheme, _, rest = base.partition("://")
    # A directory may have an @ in its name; in an address what stands before it is a login.
    shown = base if scheme == "sqlite" and rest.startswith("/") else without_login(base)
    return f"{shown}?store={without_login(store)}" if key == "store" and store else shown


def without_login(url: str) -> str:
    """Return a URL of one server without user, password and query, whether or not it is well formed."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        scheme, rest = "", url
    # The last @, not the first of the host part: a password with a bare / or ? in it ends only there.
    login, at, place = rest.rpartition("@")
    place = place.partition("?")[0].partition("#")[0]
    return f"{scheme}{mark}{'***@' if at and login else ''}{place}"
