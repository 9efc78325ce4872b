"""Communities of the Stack Exchange network: which one a dump's folder or archive holds, where it lives, which of the paper's groups it is in.

A community that communities.toml does not know is in no group and taken only where a recipe names it (`sites`): what a folder is called becomes
part of the addresses that credit authors, so none is made up from a name that may be anything ("old-copy"), and whether it is STEM is for a person
to say. Invented communities live under the domains that are reserved for such (RFC 2606: .example, .test, .invalid) and need no naming.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from ..errors import UsageError
from ..progress import visible, warn
from .dump import TABLES, Package, Table, packages, passed_over

# sites with a domain of their own; every other one is NAME.stackexchange.com
_OWN_DOMAIN = {
    "stackoverflow": "stackoverflow.com",
    "serverfault": "serverfault.com",
    "superuser": "superuser.com",
    "askubuntu": "askubuntu.com",
    "mathoverflow": "mathoverflow.net",
    "stackapps": "stackapps.com",
}
_RESERVED = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z0-9]+(?:-[a-z0-9]+)*)*\.(?:example|test|invalid)")
# what the archive adds to a site's name: stackoverflow.com-Posts.7z
_PACKING = re.compile(r"(?:-(?:posts|users|comments|posthistory|postlinks|tags|votes|badges))?(?:\.7z)?$")


@dataclass(frozen=True)
class Site:
    """A community: `slug` ("beer", "stackoverflow", "bicycles-meta", "ru.stackoverflow") and the host its posts are read at."""

    slug: str
    host: str

    def question_url(self, question: int, answer: int | None = None) -> str:
        """The question's page; with an answer, at the place of the answer (the site's own anchors)."""
        return f"https://{self.host}/questions/{question}" + (f"#{answer}" if answer is not None else "")

    def user_url(self, user: int) -> str:
        return f"https://{self.host}/users/{user}"


@dataclass(frozen=True)
class Dump:
    """A community's tables, of those that are read: "Posts" always, "Users" and "Comments" where they are there."""

    site: Site
    tables: dict[str, Table]

    @property
    def posts(self) -> Table:
        return self.tables["Posts"]

    @property
    def users(self) -> Table | None:
        return self.tables.get("Users")

    @property
    def comments(self) -> Table | None:
        return self.tables.get("Comments")


def site_of(folder: str) -> Site:
    """The site a folder's name stands for.

    "coffee", "coffee.stackexchange.com"; "coffee-meta", "meta.coffee", "coffee.meta", "coffee.meta.stackexchange.com"; "stackoverflow",
    "stackoverflow.com", "stackoverflow.com-Posts" (how the archive packs it), "ru.stackoverflow.com". "valley.example" (or .test, .invalid) is
    exactly that host. That the site exists is not checked. Raises UsageError for a name that cannot be a host.
    """
    name = _PACKING.sub("", folder.strip().lower().removeprefix("www."))
    if _RESERVED.fullmatch(name):
        return Site(name, name)
    for ending in (".stackexchange.com", ".com", ".net"):
        name = name.removesuffix(ending)
    parts = name.removesuffix("-meta").split(".")
    meta = name.endswith("-meta") or (len(parts) > 1 and "meta" in parts)
    if len(parts) > 1:
        parts = [p for p in parts if p != "meta"]
    if not parts or not all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", p) for p in parts):
        raise UsageError(
            f"{folder!r} is not the name of a community",
            remedy='call the folder as the site is called, e.g. "coffee" or "stackoverflow.com"',
        )
    slug = ".".join(parts) + ("-meta" if meta else "")
    own = _OWN_DOMAIN.get(parts[-1])
    if own is not None:  # ru.stackoverflow.com; of metas meta.stackoverflow.com, ru.meta.stackoverflow.com
        return Site(slug, ".".join([*parts[:-1], *(["meta"] if meta else []), own]))
    return Site(slug, ".".join([*parts, *(["meta"] if meta else []), "stackexchange.com"]))


@cache
def _table() -> dict:
    return tomllib.loads((resources.files("limakit.sources") / "communities.toml").read_text(encoding="utf-8"))


@cache
def groups() -> dict[str, frozenset[str]]:
    """{"stem", "other", "dropped"} -> slugs, from communities.toml, which says how far they are known to be the paper's."""
    table = _table()
    old = table["renamed"]
    return {name: frozenset(table[name]) | {was for was, now in old.items() if now in table[name]} for name in ("stem", "other", "dropped")}


def _today(slug: str) -> str:
    """What the community is called now: "beer" is "alcohol", "beer-meta" is "alcohol-meta"."""
    name = slug.removesuffix("-meta")
    return _table()["renamed"].get(name, name) + slug[len(name) :]


def find_sites(root: Path, group: str, wanted: list[str] | None) -> list[Dump]:
    """The communities below `root` that a source takes, sorted by slug.

    `group` is "stem", "other" or "any"; `wanted` names communities, in any spelling that `site_of` knows. Meta sites and invented ones are in no group.
    Raises UsageError for a folder or community that is missing, there twice, contradicts the group, or is unknown and not named; LimakitError for an
    archive that cannot be listed.
    """
    found = _dumps(root)
    if wanted is not None:
        return [_named(slug, found, group, root) for slug in sorted({site_of(name).slug for name in wanted})]
    unknown = [slug for slug in found if not _known(slug)]
    if unknown:
        which = "in none of the paper's groups" if group != "any" else "no community that is known"
        raise UsageError(
            f"{which}: {', '.join(unknown)}",
            where=root,
            remedy="call it as the site is called or move it elsewhere; to take such a community, name all that are taken under sites = [...]",
        )
    if group == "any":
        return list(found.values())
    taken = [dump for slug, dump in found.items() if slug in groups()[group]]
    if not taken:
        raise UsageError(f"no community of the group {group!r} here (found: {', '.join(found)})", where=root, remedy='set group = "any"')
    return taken


def _known(slug: str) -> bool:
    known = frozenset().union(*groups().values())
    return slug in known or slug.removesuffix("-meta") in known or _RESERVED.fullmatch(slug) is not None


def _dumps(root: Path) -> dict[str, Dump]:
    """Every community below `root` whose Posts.xml is there, by slug and in the slugs' order."""
    try:
        if not root.is_dir():
            what = "is a file; a source names the folder that it lies in" if root.is_file() else "no such folder"
            raise UsageError(
                what, where=root, remedy="name the folder that holds a folder (with its Posts.xml) or a .7z archive for each community"
            )
        if (root / "Posts.xml").is_file():
            raise UsageError("is one community; a source names the folder above it", where=root, remedy=f"path = {str(root.parent)!r}")
        every = packages(root)
        passed = passed_over(root) + [
            f"{p.name} (holds none of {', '.join(f'{table}.xml' for table in TABLES)})" for p in every if not p.tables
        ]
    except OSError as error:
        place = error.filename or root
        raise UsageError(f"cannot read: {error.strerror}", where=place, remedy="check the path and its permissions") from None
    if passed:
        _note(f"{root}: not read: {', '.join(map(visible, passed))}")
    holding = {table: [(_site(p, root), p) for p in every if table in p.tables and (table == "Posts" or _is_site(p))] for table in TABLES}
    found: dict[str, Dump] = {}
    for slug, (site, posts) in _once(holding["Posts"], root).items():
        tables = {"Posts": posts.tables["Posts"]}
        for table in TABLES[1:]:
            same = [(other, p) for other, p in holding[table] if _today(other.slug) == _today(slug)]
            for _, package in _once(same, root).values():
                tables[table] = package.tables[table]
        found[slug] = Dump(site, tables)
    if not found:
        what = "no Posts.xml in any folder here, and in no .7z archive"
        raise UsageError(what, where=root, remedy="each community has a folder or an archive, called as the site is called")
    return dict(sorted(found.items()))


@cache
def _note(text: str) -> None:
    """Say it once: a folder is looked through several times in a run."""
    warn(text)


def _site(package: Package, root: Path) -> Site:
    try:
        return site_of(package.name)
    except UsageError as error:
        raise UsageError(error.what, where=root, remedy=error.remedy) from None


def _is_site(package: Package) -> bool:
    try:
        return bool(site_of(package.name))
    except UsageError:
        return False


def _once(found: list[tuple[Site, Package]], root: Path) -> dict[str, tuple[Site, Package]]:
    """The same by slug. Raises UsageError where two of them hold one community."""
    by_community: dict[str, Package] = {}
    for site, package in found:
        same = by_community.setdefault(_today(site.slug), package)
        if same is not package:
            raise UsageError(f"{same.name} and {package.name} are the same community", where=root, remedy="move one of them elsewhere")
    return {site.slug: (site, package) for site, package in found}


def _named(slug: str, found: dict[str, Dump], group: str, root: Path) -> Dump:
    if slug not in found:
        raise UsageError(
            f"no Posts.xml of {slug!r} (found: {', '.join(found)})", where=root, remedy="put its dump here, or mend sites = [...]"
        )
    other = next((name for name, slugs in groups().items() if group != "any" and name != group and slug in slugs), None)
    if other:
        raise UsageError(
            f"{slug!r} is in the group {other!r}, not {group!r}", where=root, remedy='take it out of sites, or set group = "any"'
        )
    return found[slug]
