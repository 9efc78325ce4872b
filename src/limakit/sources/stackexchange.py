"""What the attributes of a Stack Exchange post say: whom to credit, under which licence, with which tags."""

from __future__ import annotations

import re

from ..records import Author
from .communities import Site
from .scan import Row

_NUMBER = re.compile(r"-?[0-9]{1,19}")


def author_of(row: Row, site: Site, wrote: str) -> Author:
    """Whom to credit for a post. Accounts that are deleted keep only the name they had, or nothing; -1 is the Community account."""
    name = row.get("OwnerDisplayName", "").strip()
    if _NUMBER.fullmatch(row.get("OwnerUserId", "")):
        user = int(row["OwnerUserId"])
        return Author(name=name or ("Community" if user == -1 else f"user {user}"), url=site.user_url(user), wrote=wrote)
    return Author(name=name or "a deleted account", url=None, wrote=wrote)


def licence_of(row: Row) -> str:
    """The post's licence: its own, or (older dumps have none) by the site's rule: by the date it was written.

    https://stackoverflow.com/help/licensing: 2.5 before 2011-04-08, 3.0 before 2018-05-02, 4.0 since (UTC).
    """
    if row.get("ContentLicense", "").strip():
        return row["ContentLicense"].strip()
    created = row.get("CreationDate", "")
    if not re.match(r"\d{4}-\d\d-\d\d", created):
        return "CC BY-SA, version unknown"
    return f"CC BY-SA {'2.5' if created < '2011-04-08' else '3.0' if created < '2018-05-02' else '4.0'}"


def tags_of(row: Row) -> tuple[str, ...]:
    """Tags in either form: <a><b> or |a|b|."""
    tags = row.get("Tags", "")
    found = tags.split("|") if tags.startswith("|") else re.findall(r"<([^<>]*)>", tags)
    return tuple(t for t in found if t)
