"""Folders and archives: what lies where, read through a pipe, and what is said when the pipe breaks."""

import os
import resource
import shutil
import signal
import subprocess

import numpy as np
import psutil
import pytest
from dumps import answer, question, write_site

from limakit.errors import LimakitError, UsageError
from limakit.sources.dump import Table, archive_bytes, archive_members, packages, ranges, rows_at, scan_of

SEVEN = shutil.which("7zz") or shutil.which("7z") or shutil.which("7za")
needs_7zip = pytest.mark.skipif(SEVEN is None, reason="7-Zip (7zz) is not installed; limakit needs it for .7z archives only")


def pack(archive, *files, folder=None):
    subprocess.run([SEVEN, "a", "-bd", "-mx=0", str(archive), *map(str, files)], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def places(table, root="posts"):
    """Byte and size of each row."""
    blocks = list(scan_of(table, root))
    return np.concatenate([b.starts + b.base for b in blocks]), np.concatenate([b.ends - b.starts for b in blocks])


@pytest.fixture
def site(tmp_path):
    rows = [r for i in range(1, 400) for r in (question(2 * i, body=f"<p>{'é' * i}</p>"), answer(2 * i + 1, 2 * i))]
    return write_site(tmp_path / "unpacked", "coffee", rows)


@needs_7zip
def test_an_archive_gives_the_bytes_of_its_file(site, tmp_path):
    users = write_site(site.parents[1], "coffee", [], tag="users")
    pack(tmp_path / "coffee.7z", site, users, folder=tmp_path)
    (package,) = packages(tmp_path)
    assert package.name == "coffee.7z" and set(package.tables) == {"Posts", "Users"}
    table = package.tables["Posts"]
    assert b"".join(archive_bytes(table.path, table.member)) == site.read_bytes()
    assert table.name == "Posts.xml" and table.where.endswith("coffee.7z: " + str(table.member))
    assert [x.tolist() for x in places(table)] == [x.tolist() for x in places(Table(site))]


@needs_7zip
@pytest.mark.parametrize("member", ["Posts.xml", "-o Posts.xml", "@list/Posts.xml", "a*b/Posts.xml", "ü/posts.XML"])
def test_members_of_any_name(site, tmp_path, member):
    """Names are names: never options, lists of files or patterns."""
    target = tmp_path / "in" / member
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(site, target)
    archive = tmp_path / "archives" / "coffee.7z"
    pack(archive, ".", folder=tmp_path / "in")
    if member != "-o Posts.xml":
        (package,) = packages(archive.parent)
        assert package.tables["Posts"].member == member
    assert archive_members(archive) == [member]
    assert b"".join(archive_bytes(archive, member)) == site.read_bytes()


@needs_7zip
def test_archives_of_one_table_each_and_those_that_are_not_read(site, tmp_path):
    for part in ("Posts", "Users", "Comments", "PostHistory", "Votes"):
        source = write_site(tmp_path / "x", part, [], tag=part.lower())
        pack(tmp_path / f"stackoverflow.com-{part}.7z", source)
    (tmp_path / "stackoverflow.com-Badges.7z").write_bytes(b"never looked at")
    found = {p.name: set(p.tables) for p in packages(tmp_path)}
    assert found == {f"stackoverflow.com-{part}.7z": {part} for part in ("Posts", "Users", "Comments")}


@needs_7zip
@pytest.mark.parametrize("keep", [0, 20, 0.5, 0.98])
def test_a_damaged_archive_is_named(site, tmp_path, keep):
    archive = tmp_path / "coffee.7z"
    pack(archive, site)
    data = archive.read_bytes()
    archive.write_bytes(data[: int(keep if keep >= 1 else keep * len(data))])
    with pytest.raises(LimakitError, match=r"coffee\.7z: cannot be read as an archive: \S"):
        packages(tmp_path)


@needs_7zip
@pytest.mark.parametrize("names_too", [False, True])
def test_an_encrypted_archive_is_called_that(site, tmp_path, names_too):
    archive = tmp_path / "coffee.7z"
    subprocess.run(
        [SEVEN, "a", "-bd", "-psecret", *(["-mhe=on"] if names_too else []), str(archive), str(site)], check=True, capture_output=True
    )
    with pytest.raises(LimakitError, match=r"(?s)coffee\.7z: is encrypted.*its password"):
        packages(tmp_path)
    with pytest.raises(LimakitError, match=r"coffee\.7z: is encrypted"):
        list(archive_bytes(archive, "Posts.xml"))


@needs_7zip
def test_an_empty_file_is_called_empty(tmp_path):
    (tmp_path / "coffee.7z").touch()
    with pytest.raises(LimakitError, match=r"coffee\.7z: .*it is empty"):
        packages(tmp_path)


@needs_7zip
def test_damage_inside_the_packed_bytes_is_an_error_whatever_came_through(site, tmp_path):
    archive = tmp_path / "coffee.7z"
    pack(archive, site)
    data = bytearray(archive.read_bytes())
    data[len(data) // 2] ^= 0x55
    archive.write_bytes(data)
    with pytest.raises(LimakitError, match=r"coffee\.7z: cannot be read as an archive: "):
        list(scan_of(Table(archive, "Posts.xml"), "posts"))


@needs_7zip
def test_a_packer_that_is_killed_is_an_error_and_no_end_of_file(site, tmp_path):
    archive = tmp_path / "coffee.7z"
    big = tmp_path / "Posts.xml"
    big.write_bytes(os.urandom(1 << 20) * 8)
    pack(archive, big)
    stream = archive_bytes(archive, "Posts.xml")
    next(stream)
    (child,) = _children()
    os.kill(child, signal.SIGKILL)
    with pytest.raises(LimakitError, match="7-Zip was ended by signal 9"):
        list(stream)


def _children() -> list[int]:
    return [child.pid for child in psutil.Process().children() if "7z" in child.name()]


@needs_7zip
def test_a_reader_that_stops_early_leaves_no_process(site, tmp_path):
    big = tmp_path / "Posts.xml"
    big.write_bytes(os.urandom(1 << 20) * 8)
    pack(tmp_path / "coffee.7z", big)
    stream = archive_bytes(tmp_path / "coffee.7z", "Posts.xml")
    next(stream)
    stream.close()
    assert not _children()


def test_without_7zip_the_remedy_says_how_to_get_it(site, tmp_path, monkeypatch):
    (tmp_path / "coffee.7z").write_bytes(b"7z\xbc\xaf\x27\x1c")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match=r"(?s)7-Zip is needed.*apt install 7zip.*brew install sevenzip"):
        packages(tmp_path)


@needs_7zip
@pytest.mark.parametrize("form", ["file", "archive", "utf-16"])
def test_rows_by_their_place_in_any_order(site, tmp_path, form):
    table = Table(site)
    if form == "archive":
        pack(tmp_path / "coffee.7z", site)
        table = Table(tmp_path / "coffee.7z", "Posts.xml")
    elif form == "utf-16":
        text = site.read_bytes().decode("utf-8-sig").replace('encoding="utf-8"', 'encoding="utf-16"')
        site.write_bytes(text.encode("utf-16"))
    at, size = places(table)
    shuffled = np.random.default_rng(1).permutation(len(at))[:200]
    with rows_at(table, "posts", at[shuffled], size[shuffled]) as read:
        rows = {i: read(int(at[i]), int(size[i])) for i in shuffled.tolist()}
    assert all(row.decode().startswith(f'<row Id="{i + 2}" ') and row.rstrip().endswith(b"/>") for i, row in rows.items())


@pytest.mark.parametrize("form", ["archive", "utf-16"])
def test_no_room_for_the_rows_of_an_archive_names_the_temporary_folder(site, tmp_path, form):
    table = Table(site)
    if form == "archive":
        if SEVEN is None:
            pytest.skip("7-Zip (7zz) is not installed")
        pack(tmp_path / "coffee.7z", site)
        table = Table(tmp_path / "coffee.7z", "Posts.xml")
    else:
        site.write_bytes(site.read_bytes().decode("utf-8-sig").replace('encoding="utf-8"', 'encoding="utf-16"').encode("utf-16"))
    at, size = places(table)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # a disk that is full after 50 kB
    try:
        with (
            pytest.raises(LimakitError, match=r"(?s)^/\S+: cannot write to the temporary folder: \w.*free some space there, or set TMPDIR"),
            rows_at(table, "posts", at, size),
        ):
            pass
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@needs_7zip
def test_no_temporary_folder_at_all(site, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    monkeypatch.delenv("TMPDIR", raising=False)
    with pytest.raises(LimakitError, match=r"(?s)none: cannot write to the temporary folder: No such file.*set TMPDIR"):
        next(archive_bytes(site, "Posts.xml"))


def test_large_files_are_cut_and_others_are_not(site, monkeypatch):
    assert ranges(Table(site), "posts") == [(0, None)]
    monkeypatch.setattr("limakit.sources.dump.RANGE", 100_000)
    cut = ranges(Table(site), "posts")
    assert len(cut) > 3 and cut[0] == (0, 100_000) and cut[-1] == (100_000 * (len(cut) - 1), None)
    found = [b.base + int(s) for start, stop in cut for b in scan_of(Table(site), "posts", start, stop) for s in b.starts]
    assert found == places(Table(site))[0].tolist()
