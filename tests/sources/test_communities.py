"""Names of folders, hosts, and the paper's groups."""

import shutil
import subprocess

import pytest
from dumps import question, write_site

from limakit.errors import LimakitError, UsageError
from limakit.sources.communities import find_sites, groups, site_of


@pytest.mark.parametrize(
    ("folder", "slug", "host"),
    [
        ("coffee", "coffee", "coffee.stackexchange.com"),
        ("coffee.stackexchange.com", "coffee", "coffee.stackexchange.com"),
        ("bicycles-meta", "bicycles-meta", "bicycles.meta.stackexchange.com"),
        ("meta.bicycles", "bicycles-meta", "bicycles.meta.stackexchange.com"),
        ("bicycles.meta.stackexchange.com", "bicycles-meta", "bicycles.meta.stackexchange.com"),
        ("stackoverflow", "stackoverflow", "stackoverflow.com"),
        ("stackoverflow.com-Posts", "stackoverflow", "stackoverflow.com"),
        ("serverfault.com", "serverfault", "serverfault.com"),
        ("superuser", "superuser", "superuser.com"),
        ("askubuntu.com", "askubuntu", "askubuntu.com"),
        ("mathoverflow.net", "mathoverflow", "mathoverflow.net"),
        ("stackapps", "stackapps", "stackapps.com"),
        ("meta.stackoverflow.com", "stackoverflow-meta", "meta.stackoverflow.com"),
        ("ru.stackoverflow.com", "ru.stackoverflow", "ru.stackoverflow.com"),
        ("ru.meta.stackoverflow.com", "ru.stackoverflow-meta", "ru.meta.stackoverflow.com"),
        ("meta.stackexchange.com", "meta", "meta.stackexchange.com"),
        ("coffee.stackexchange.com.7z", "coffee", "coffee.stackexchange.com"),
        ("stackoverflow.com-PostHistory", "stackoverflow", "stackoverflow.com"),
        ("stackoverflow.com-Posts.7z", "stackoverflow", "stackoverflow.com"),
        ("stackoverflow.com-Comments", "stackoverflow", "stackoverflow.com"),
        ("www.superuser.com", "superuser", "superuser.com"),
        ("3dprinting.stackexchange.com", "3dprinting", "3dprinting.stackexchange.com"),
    ],
)
def test_folder_to_site(folder, slug, host):
    site = site_of(folder)
    assert (site.slug, site.host) == (slug, host)
    assert site_of(host) == site_of(slug) == site


@pytest.mark.parametrize("folder", ["my dump", "a/b", "-", "x..y", "é"])
def test_what_cannot_be_a_host(folder):
    with pytest.raises(LimakitError, match="is not the name of a community"):
        site_of(folder)


def test_groups_have_the_papers_sizes_and_do_not_overlap():
    import tomllib
    from importlib import resources

    table = tomllib.loads((resources.files("limakit.sources") / "communities.toml").read_text())
    assert [len(table[g]) for g in ("stem", "other", "dropped")] == [75, 99, 5]
    assert len({*table["stem"], *table["other"], *table["dropped"]}) == 179
    assert set(table["renamed"].values()) <= {*table["stem"], *table["other"]}
    assert {"beer", "coffee", "cooking", "english", "travel"} <= groups()["other"]  # the paper names the last three
    assert {"stackoverflow", "math", "physics"} <= groups()["stem"]
    assert all(site_of(slug).slug == slug for slugs in groups().values() for slug in slugs)


def test_group_takes_its_own_and_leaves_metas(tmp_path):
    for name in ("coffee", "math.stackexchange.com", "coffee-meta", ".hidden"):
        write_site(tmp_path, name, [question(1)])
    (tmp_path / "notes").mkdir()

    def slugs(group, sites=None):
        return [site.slug for site in (dump.site for dump in find_sites(tmp_path, group, sites))]

    assert slugs("stem") == ["math"]
    assert slugs("other") == ["coffee"]
    assert slugs("any") == ["coffee", "coffee-meta", "math"]
    assert slugs("other", ["coffee.meta", "coffee"]) == ["coffee", "coffee-meta"]
    with pytest.raises(UsageError, match="'math' is in the group 'stem', not 'other'"):
        slugs("other", ["math"])
    with pytest.raises(UsageError, match=r"no Posts.xml of 'physics' \(found: coffee"):
        slugs("any", ["physics"])


def test_an_unknown_community_is_taken_only_by_name(tmp_path):
    """A folder's name becomes part of the addresses that credit authors: none is made up."""
    for name in ("coffee", "solana", "solana-meta", "coffee-meta", "beer"):
        write_site(tmp_path, name, [question(1)])
    with pytest.raises(UsageError, match=r"(?s)none of the paper's groups: solana, solana-meta\n.*sites = "):
        find_sites(tmp_path, "other", None)
    with pytest.raises(UsageError, match=r"(?s)no community that is known: solana, solana-meta\n.*sites = "):
        find_sites(tmp_path, "any", None)
    for group in ("other", "any"):
        assert [d.site.slug for d in find_sites(tmp_path, group, ["solana", "coffee"])] == ["coffee", "solana"]


@pytest.mark.parametrize(("one", "two"), [("beer", "alcohol.stackexchange.com"), ("coffee", "coffee.stackexchange.com-Posts"), ("health-meta", "medicalsciences-meta")])  # fmt: skip
def test_two_folders_of_one_community_are_an_error_that_names_both(tmp_path, one, two):
    for name in (one, two):
        write_site(tmp_path, name, [question(1)])
    with pytest.raises(UsageError) as raised:
        find_sites(tmp_path, "any", None)
    assert "are the same community" in str(raised.value) and one in str(raised.value) and two in str(raised.value)


def test_a_bad_name_says_where_the_folder_is(tmp_path):
    write_site(tmp_path, "my dump", [question(1)])
    with pytest.raises(UsageError, match=rf"{tmp_path.name}: 'my dump' is not the name"):
        find_sites(tmp_path, "any", None)


def test_wrong_folders(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        find_sites(tmp_path / "none", "any", None)
    with pytest.raises(UsageError, match=r"no Posts\.xml in any folder"):
        find_sites(tmp_path, "any", None)
    path = write_site(tmp_path, "coffee", [question(1)])
    with pytest.raises(UsageError, match="is one community"):
        find_sites(path.parent, "any", None)
    with pytest.raises(UsageError, match="no community of the group 'stem'"):
        find_sites(tmp_path, "stem", None)
    write_site(tmp_path, "coffee.stackexchange.com", [question(1)])
    with pytest.raises(UsageError, match="the same community"):
        find_sites(tmp_path, "any", None)


def test_pieces_beside_good_ones_that_are_not_read_are_told_once(tmp_path, capsys):
    write_site(tmp_path, "coffee", [question(1)])
    write_site(tmp_path, "beer", [question(1)]).rename(tmp_path / "beer" / "posts.xml")
    write_site(tmp_path, "coffee", [], tag="users").rename(tmp_path / "coffee" / "USERS.XML")
    (tmp_path / "coffee" / "votes.xml").touch()
    (tmp_path / "math.7z.001").write_bytes(b"7z")
    (tmp_path / "notes.txt").touch()
    for _ in range(2):
        assert [dump.site.slug for dump in find_sites(tmp_path, "other", None)] == ["coffee"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(
        f"note: {tmp_path}: not read: beer/posts.xml (is called Posts.xml in a dump), coffee/USERS.XML ("
    )
    assert "math.7z.001 (a piece of an archive" in said and "votes" not in said and "notes.txt" not in said


@pytest.mark.skipif(not (shutil.which("7zz") or shutil.which("7z")), reason="7-Zip (7zz) is not installed")
def test_an_archive_without_tables_is_told(tmp_path, capsys):
    write_site(tmp_path, "coffee", [question(1)])
    (tmp_path / "readme.txt").write_text("x")
    subprocess.run(
        [shutil.which("7zz") or "7z", "a", "-bd", str(tmp_path / "beer.7z"), "readme.txt"], cwd=tmp_path, check=True, capture_output=True
    )
    find_sites(tmp_path, "other", None)
    assert "beer.7z (holds none of Posts.xml, Users.xml, Comments.xml)" in capsys.readouterr().err
