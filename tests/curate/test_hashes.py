"""Hashes of the inputs: remembered while a file is untouched, made again when anything about it changes."""

import hashlib
import json
import os
import time

import pytest

from limakit.curate import hashes
from limakit.curate.hashes import content_hashes
from limakit.errors import LimakitError


@pytest.fixture
def read(monkeypatch):
    """The files that were read."""
    seen = []
    real = hashes.sha256_file
    monkeypatch.setattr(hashes, "sha256_file", lambda path: seen.append(path.name) or real(path))
    monkeypatch.setattr(hashes, "_SETTLED_S", 0.0)
    return seen


def test_a_file_is_read_once_until_it_changes(tmp_path, read):
    path, memory = tmp_path / "a", tmp_path / ".cache" / "hashes.json"
    path.write_bytes(b"one")
    time.sleep(0.02)
    want = {path: hashlib.sha256(b"one").hexdigest()}
    assert content_hashes({"a": path}, memory) == want == content_hashes({"a": path}, memory)
    assert read == ["a"]
    before = path.stat()
    path.write_bytes(b"two")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # the same size and time: the inode's own time tells
    time.sleep(0.02)
    assert content_hashes({"a": path}, memory)[path] == hashlib.sha256(b"two").hexdigest()
    assert read == ["a", "a"]


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path, read, monkeypatch):
    monkeypatch.setattr(hashes, "_SETTLED_S", 60.0)
    path = tmp_path / "a"
    path.write_bytes(b"one")
    content_hashes({"a": path}, tmp_path / "m.json")
    content_hashes({"a": path}, tmp_path / "m.json")
    assert read == ["a", "a"] and not (tmp_path / "m.json").exists()


@pytest.mark.parametrize("damage", [b"", b"[]", b'{"x": 1}', b"\xff", None])
def test_a_damaged_memory_is_none(tmp_path, read, damage):
    path, memory = tmp_path / "a", tmp_path / "m.json"
    path.write_bytes(b"one")
    time.sleep(0.02)
    content_hashes({"a": path}, memory)
    memory.write_bytes(json.dumps({str(path): [3, "x"]}).encode() if damage is None else damage)
    assert content_hashes({"a": path}, memory)[path] == hashlib.sha256(b"one").hexdigest()
    assert len(read) == 2


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(LimakitError, match="cannot read") as error:
        content_hashes({"a": tmp_path / "none"}, tmp_path / "m.json")
    assert error.value.where == tmp_path / "none"
