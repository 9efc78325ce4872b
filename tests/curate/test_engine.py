"""Where the work is done does not show: in this process, in others, on a cluster; and what happens when something goes wrong there."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import tasks
from cluster import free_port, two_nodes

import limakit
from limakit.curate import crew
from limakit.curate.engine import SMALL, Task, Work
from limakit.errors import LimakitError, UsageError

# where the processes that the tests start find the tasks, and limakit as it is here
PYTHONPATH = f"{Path(tasks.__file__).parent}{os.pathsep}{Path(limakit.__file__).parents[1]}"
LARGE = SMALL  # a task of this weight is not done in the process that asks


@pytest.fixture(autouse=True)
def _others_are_known():
    """Processes that tests of other rooms left for their next ones are none of the engine's."""
    OTHERS[:] = psutil.Process().children(recursive=True)


OTHERS: list[psutil.Process] = []


@pytest.fixture(autouse=True)
def _workers_find_the_tasks(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", PYTHONPATH)


@pytest.fixture(scope="module")
def cluster():
    with two_nodes(PYTHONPATH) as address:
        yield address


@pytest.fixture
def files(tmp_path):
    def write(*texts: str) -> list[Path]:
        paths = [tmp_path / f"file{i}" for i in range(len(texts))]
        for path, text in zip(paths, texts, strict=True):
            path.write_text(text)
        return paths

    return write


def tables(work: Work, function, paths, *, weight: int = LARGE, **arguments) -> list[dict]:
    made = [Task(path, work.content(path), weight, arguments) for path in paths]
    return [table.to_pydict() for table in work.run(function, made, "test")]


# --- the same everywhere


def test_processes_give_what_one_process_gives_in_the_order_of_the_tasks(tmp_path, files):
    """Tasks that take long are not overtaken."""
    paths = files(*(f"word{i} " * (i + 1) for i in range(10)))
    here, there = (Work(7, tmp_path / name) for name in ("here", "there"))
    alone = tables(here, tasks.count, paths, weight=1)
    made = [Task(path, there.content(path), LARGE, {"seconds": 0.5 if i in (0, 4) else 0.0}) for i, path in enumerate(paths)]
    assert [table.to_pydict() for table in there.run(tasks.count, made, "test")] == alone
    pids = {table["pid"][0] for table in tables(there, tasks.whereabouts, paths)}
    assert os.getpid() not in pids and len(pids) == min(os.cpu_count() or 1, 10)


def test_a_cluster_of_two_nodes_gives_the_same_and_both_work(tmp_path, files, cluster):
    """Byte for byte the same results as on one machine, in the same order and under the same names."""
    paths = files(*(f"word{i} " * (i + 1) for i in range(6)))
    log = tmp_path / "log"
    here, there = Work(7, tmp_path / "here"), Work(7, tmp_path / "there", cluster)
    assert tables(there, tasks.logged, paths, log=str(log)) == tables(here, tasks.logged, paths, weight=1, log=str(log))
    assert {p.name: p.read_bytes() for p in there.cache.iterdir()} == {p.name: p.read_bytes() for p in here.cache.iterdir()}
    nodes = {line.split()[2] for line in log.read_text().splitlines()} - {"here"}
    assert len(nodes) == 2 and "127.0.0.2" in nodes, "Ray knows the first one by another address of this machine"


@pytest.mark.slow
def test_a_fault_on_a_cluster_is_told_as_here(tmp_path, files, cluster):
    with pytest.raises(UsageError) as caught:
        tables(Work(7, tmp_path / "cache", cluster), tasks.picky, files("a", "bad"), kind="usage")
    assert (caught.value.what, caught.value.where, caught.value.remedy) == ("is bad", "file1, byte 0", "write a good one")


@pytest.mark.slow
def test_on_a_cluster_a_process_that_dies_is_replaced(tmp_path, files, cluster):
    paths = files("a", "deadly", "c", "d")
    found = tables(Work(7, tmp_path / "cache", cluster), tasks.fatal, paths, mark=str(tmp_path / "mark"))
    assert [table["first"][0] for table in found] == ["a", "deadly", "c", "d"] and (tmp_path / "mark").exists()


@pytest.mark.slow
def test_other_code_or_a_missing_file_on_a_machine_is_told(tmp_path, files, cluster, monkeypatch):
    paths = files("a", "b")
    calls = [crew.Call("tasks:count", str(path), {}, None, "another version") for path in paths]
    with pytest.raises(LimakitError, match="has another limakit than this one"):
        for answer in crew.answers(calls, cluster):
            assert answer[:1] == crew.FAILED
            raise LimakitError(json.loads(answer[1:])[1])
    work = Work(7, tmp_path / "cache", cluster)
    made = [Task(path.with_name("elsewhere"), work.content(path), LARGE) for path in paths]
    with pytest.raises(LimakitError, match="elsewhere: is not there on the machine"):
        list(work.run(tasks.count, made, "test"))


@pytest.mark.slow
def test_a_large_result_passes_through_a_cluster_and_memory_stays_bounded(tmp_path, files, cluster):
    work = Work(7, tmp_path / "cache", cluster)
    made = [Task(path, work.content(path), LARGE, {"mb": 30}) for path in files(*(f"{i}" for i in range(12)))]
    assert sum(table.nbytes for table in work.run(tasks.large, made, "test")) > 350_000_000


# --- addresses


def test_a_wrong_address_is_one_message_at_once(tmp_path, files):
    started = time.monotonic()
    for address in (f"127.0.0.1:{free_port()}", "nowhere.invalid:6379", "banana", "127.0.0.1:99999", "a b:1"):
        with pytest.raises(UsageError) as caught:
            tables(Work(7, tmp_path / "cache", address), tasks.count, files("a", "b"))
        assert caught.value.where == address and "host:port" in caught.value.remedy and "\n" not in caught.value.what
    assert time.monotonic() - started < 10


def test_an_address_of_something_else_is_given_up_on(tmp_path, files, monkeypatch):
    """Ray itself would wait there for minutes."""
    import socket

    monkeypatch.setattr(crew, "START_SECONDS", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(UsageError, match="no answer within 4 seconds"):
            tables(Work(7, tmp_path / "cache", address), tasks.count, files("a", "b"))
    assert not descendants()


# --- results are kept by content


def test_what_is_done_is_not_done_again_wherever_the_file_is(tmp_path, files):
    log = tmp_path / "log"
    paths = files("one", "two", "two")

    def called() -> list[str]:
        return [line.split()[0] for line in log.read_text().splitlines()]

    tables(Work(7, tmp_path / "cache"), tasks.logged, paths, weight=1, log=str(log))
    assert len(called()) == 2, "equal tasks are done once"
    moved = [path.rename(path.with_suffix(".moved")) for path in paths]
    tables(Work(7, tmp_path / "cache"), tasks.logged, moved, weight=1, log=str(log))
    assert len(called()) == 2, "a name is no content"
    moved[0].write_text("onE")
    assert tables(Work(7, tmp_path / "cache"), tasks.logged, moved, weight=1, log=str(log))[0]["first"] == ["onE"]
    assert called()[2:] == ["file0.moved"], "a byte is"
    used = Work(7, tmp_path / "cache")
    tables(used, tasks.logged, moved, weight=1, log=str(log))
    assert used.used <= {p.name for p in used.cache.iterdir()}


def test_arguments_and_code_are_part_of_a_result(tmp_path, files, monkeypatch):
    from limakit.curate import engine

    (path,) = files("abc")
    work = Work(7, tmp_path / "cache")
    assert [tables(work, tasks.count, [path], base=base)[0]["bytes"] for base in (0, 10)] == [[3], [13]]
    before = work.place(tasks.count, Task(path, work.content(path), 1))
    monkeypatch.setattr(engine, "code_hash", lambda: "changed")
    assert work.place(tasks.count, Task(path, work.content(path), 1)) != before


def flipped(data: bytes) -> bytes:
    """The file is in order but for what it says."""
    place = data.index(b"word")
    return data[:place] + b"W" + data[place + 1 :]


DAMAGE = {
    "cut": lambda data: data[:40],
    "its last byte lost": lambda data: data[:-1],
    "without a checksum": lambda data: data[:-4],
    "empty": lambda data: b"",
    "short": lambda data: b"abc",
    "garbage": lambda data: b"\xa5\x17" * 2500,
    "flipped": flipped,
}


@pytest.mark.parametrize("how", DAMAGE)
@pytest.mark.parametrize("weight", [1, pytest.param(LARGE, marks=pytest.mark.slow)])
def test_a_damaged_result_is_made_again_in_the_same_run(tmp_path, files, how, weight):
    """It is only a cache: no byte of it passes as data, and nothing is asked of the user."""
    paths = files("word one", "word two", "word three")
    work = Work(7, tmp_path / "cache")
    expected = tables(work, tasks.count, paths, weight=1)
    good = {place: place.read_bytes() for place in work.cache.iterdir()}
    for place in list(good)[:2]:
        place.write_bytes(DAMAGE[how](good[place]))
    list(good)[2].unlink()
    assert tables(Work(7, tmp_path / "cache"), tasks.count, paths, weight=weight) == expected
    assert {place: place.read_bytes() for place in work.cache.iterdir()} == good


def test_a_result_that_cannot_be_opened_is_one_message(tmp_path, files):
    work = Work(7, tmp_path / "cache")
    (path,) = files("a")
    place = work.place(tasks.count, Task(path, work.content(path), 1))
    place.mkdir(parents=True)
    with pytest.raises(LimakitError, match=r"(?s)\.arrow: cannot read: .*check the folder"):
        tables(work, tasks.count, [path], weight=1)


# --- when something goes wrong


@pytest.mark.parametrize("weight", [1, LARGE])
def test_an_error_for_the_user_arrives_whole_and_what_came_before_is_kept(tmp_path, files, weight):
    paths = files("good", "fine", "bad", "worse")
    work = Work(7, tmp_path / "cache")
    with pytest.raises(LimakitError) as caught:
        tables(work, tasks.picky, paths, weight=weight)
    assert type(caught.value) is LimakitError
    assert (caught.value.what, caught.value.where, caught.value.remedy) == ("is bad", "file2, byte 0", "write a good one")
    kept = {work.place(tasks.picky, Task(path, work.content(path), 1)) for path in paths[:2]}
    assert kept <= set(work.cache.iterdir()) and not list(work.cache.glob(".partial-*"))
    assert not descendants()


@pytest.mark.parametrize("weight", [1, LARGE])
def test_a_fault_of_ours_is_no_error_of_the_user_and_says_where(tmp_path, files, weight):
    with pytest.raises(RuntimeError, match=r"ZeroDivisionError: division by zero \(in tasks:buggy, .*file0\)") as caught:
        tables(Work(7, tmp_path / "cache"), tasks.buggy, files("a", "b"), weight=weight)
    assert "tasks.py" in caught.value.__notes__[0], "--debug shows the place"


def test_a_killed_process_is_one_message_and_the_same_command_finishes(tmp_path, files):
    """The answers of others are not taken for the one that is missing (Daft leaves it out), and what they did is not done again."""
    paths = files("a", "deadly", "c", "d", "e", "f")
    mark, work = str(tmp_path / "mark"), Work(7, tmp_path / "cache")
    with pytest.raises(LimakitError, match=r"(?s)the process that curates has died: .*run the same command again") as caught:
        tables(work, tasks.fatal, paths, mark=mark)
    assert len(caught.value.message.splitlines()) == 2 and not descendants()
    done = {p.name: p.stat().st_mtime_ns for p in work.cache.iterdir() if not p.name.startswith(".")}
    assert done
    found = tables(Work(7, tmp_path / "cache"), tasks.fatal, paths, mark=mark)
    assert [table["first"][0] for table in found] == ["a", "deadly", "c", "d", "e", "f"]
    assert {name: (work.cache / name).stat().st_mtime_ns for name in done} == done, "only what was missing"


@pytest.mark.slow
def test_a_chatty_task_does_not_stop_the_work(tmp_path, files):
    """More than a pipe holds on both streams: nobody reads them before the task ends."""
    assert [t["bytes"] for t in tables(Work(7, tmp_path / "cache"), tasks.noisy, files("a", "bb"))] == [[1], [2]]


@pytest.mark.slow
def test_modules_lying_about_where_the_command_runs_are_not_imported(tmp_path, files, monkeypatch):
    for name in ("json", "random", "daft", "ray", "limakit"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken for a module')")
    monkeypatch.chdir(tmp_path)
    assert len(tables(Work(7, tmp_path / "cache"), tasks.count, files("a", "b"))) == 2


SCRIPT = """
import sys, signal
from pathlib import Path
import tasks
from limakit.curate.engine import SMALL, Task, Work
if sys.argv[2] == "ignored":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
root = Path(sys.argv[1])
work = Work(7, root / "cache")
paths = sorted(root.glob("file*"))
try:
    list(work.run(tasks.slow, [Task(p, p.name, SMALL, {"log": str(root / "log")}) for p in paths], "test"))
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.mark.parametrize("sent", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.slow)])
def test_ctrl_c_and_kill_leave_no_process_behind(tmp_path, files, sent):
    """Nor a traceback; the tasks would take a minute."""
    files("a", "b", "c")
    command = [sys.executable, "-c", SCRIPT, str(tmp_path), "heard"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    try:
        log = tmp_path / "log"
        until(lambda: log.exists() and len(log.read_text().split()) == min(os.cpu_count() or 1, 3), 20)
        below = psutil.Process(run.pid).children(recursive=True)
        assert {int(pid) for pid in log.read_text().split()} <= {child.pid for child in below}
        run.send_signal(sent)
        _, said = run.communicate(timeout=10)
        assert run.returncode == (130 if sent == signal.SIGINT else -signal.SIGKILL), said
        assert b"Traceback" not in said
        until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in below), 5)
    finally:
        run.kill()


@pytest.mark.slow
def test_a_consumer_that_stops_early_leaves_no_process_behind(tmp_path, files):
    paths = files(*"abcdef")
    work = Work(7, tmp_path / "cache")
    stream = work.run(tasks.count, [Task(path, work.content(path), LARGE) for path in paths], "test")
    assert next(stream).to_pydict()["first"] == ["a"]
    stream.close()
    assert not descendants()


# --- bounds


@pytest.mark.slow
def test_memory_is_bounded_by_what_is_looked_at(tmp_path, files):
    """480 MB of results in all; the process that asks holds one at a time, mapped from disk."""
    work = Work(7, tmp_path / "cache")
    made = [Task(path, work.content(path), LARGE, {"mb": 20}) for path in files(*(f"{i:02}" for i in range(24)))]
    me, peak, total = psutil.Process(), 0, 0
    before = me.memory_full_info().uss
    for table in work.run(tasks.large, made, "test"):
        total += table.nbytes
        del table
        peak = max(peak, me.memory_full_info().uss - before)
    assert total > 480_000_000 and peak < 100_000_000, peak


@pytest.mark.slow
def test_nothing_is_reported_to_anybody(tmp_path, files):
    """Both libraries would: the switches that turn it off are in the environment of each process that loads them."""
    (path,) = files("x")
    for name in ("DAFT_ANALYTICS_ENABLED", "DO_NOT_TRACK", "RAY_USAGE_STATS_ENABLED"):
        assert name not in os.environ or os.environ[name] == crew._ENVIRONMENT[name]
    work = Work(7, tmp_path / "cache")
    made = [Task(path, work.content(path), LARGE, {"n": n}) for n in range(2)]
    for table in work.run(tasks.switches, made, "test"):
        assert table.to_pydict() == {"daft": [True], "ray": [True]}


def descendants() -> list[int]:
    found = psutil.Process().children(recursive=True)
    return [child.pid for child in found if child not in OTHERS and child.status() != psutil.STATUS_ZOMBIE]


def until(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "not within the time"
        time.sleep(0.05)
