"""2,000 pairs judged in both orders, 4,000 questions, by `limakit judge`'s own function against an endpoint that takes 50 ms for each.

    python bench/judging.py [--pairs 2000] [--runs 3]

The endpoint is a process of its own on the loopback that answers each question 50 ms after it came, whatever else it has to do. The ideal is
questions * latency / concurrency: nobody can be faster. Measured is everything between the call and its return: planning, asking, cache,
ledger, rows, statistics and tables; imports and the making of the workspace are not. Memory is the resident size of the judging process
between question 1,000 and the last. Measured with the recipe's default of requests on their way at once, and with 32. Prints a table of each,
then one JSON object: ours (median of the runs), the ideal as peer, their ratio; ratio_32 is for information.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

LATENCY_S = 0.05
RESPONSE_CHARS = 1500
MORE = 32  # at once, for information: there the client's own work shows


def serve() -> None:
    """The endpoint: prints its port, answers until it is ended."""

    def completion(text: str) -> bytes:
        message = {"role": "assistant", "content": text}
        body = {
            "id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": "judge",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
            "usage": {"prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940},
        }  # fmt: skip
        said = json.dumps(body).encode()
        return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(said) + said

    by_schema = completion(json.dumps({"reason": "The first one answers what was asked and the other does not.", "verdict": "A"}))
    by_line = completion("The first one answers what was asked and the other does not.\n\nVerdict: A")

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport, self.came = transport, b""

        def data_received(self, data: bytes) -> None:
            self.came += data
            head = self.came.find(b"\r\n\r\n")
            if head < 0:
                return
            length = self.came[:head].lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]
            if len(self.came) < head + 4 + int(length):
                return
            reply = by_schema if b'"response_format"' in self.came else by_line
            self.came = b""  # a client waits for its answer before it asks again
            asyncio.get_running_loop().call_later(LATENCY_S, self.transport.write, reply)  # type: ignore[attr-defined]

    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=1024)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(run())


def make(folder: Path, url: str, pairs: int, concurrency: int):  # type: ignore[no-untyped-def]
    from limakit.recipe import JudgeSpec, ModelSpec, Recipe
    from limakit.records import Prompt, Response, Turn, write_jsonl
    from limakit.workspace import Workspace

    judge = JudgeSpec(model="judge", base_url=url, concurrency=concurrency, against=["base"], grade=[])
    folder.mkdir()
    (folder / "lima.toml").write_text("")
    ids = [f"p{i}" for i in range(pairs)]
    write_jsonl(
        folder / "data/test.jsonl", [Prompt(id=p, source="t", turns=(Turn(role="user", text=f"Question {p}? " + "x " * 100),)) for p in ids]
    )
    for model in ("lima", "base"):
        rows = [
            Response(prompt_id=p, model=model, text=f"{model} {p} " + "word " * (RESPONSE_CHARS // 5), finish="eot", tokens=300)
            for p in ids
        ]
        write_jsonl(folder / f"responses/{model}.jsonl", rows)
    return Workspace(folder, folder / "lima.toml"), Recipe(name="lima", model=ModelSpec(base="b"), judge=judge)


class Memory(threading.Thread):
    """Resident MB of this process over the share of the questions that are answered, as the cache's file grows."""

    def __init__(self, cache: Path):
        super().__init__(daemon=True)
        self.cache, self.seen, self.over = cache, [], threading.Event()
        self.largest, self.last_answer = 0, 0.0

    def run(self) -> None:
        import psutil

        me = psutil.Process()
        while not self.over.wait(0.1):
            size = sum(path.stat().st_size for path in self.cache.glob("*.jsonl")) if self.cache.is_dir() else 0
            self.seen.append((size, me.memory_info().rss / 2**20))
            if size > self.largest:
                self.largest, self.last_answer = size, time.perf_counter()

    def growth(self, after: float) -> float:
        """MB from the moment when this share of the answers had come to the most that was seen until the last one came."""
        self.over.set()
        self.join()
        whole = max(size for size, _ in self.seen)
        then = [rss for size, rss in self.seen if after * whole <= size]
        return max(then[: 1 + sum(after * whole <= size < whole for size, _ in self.seen)]) - then[0]


@dataclass(frozen=True)
class Run:
    """Seconds of the whole, until the last answer, and of the processor; MB that the process grew by."""

    wall: float
    asking: float
    cpu: float
    growth: float


def measure(folder: Path, url: str, pairs: int, concurrency: int) -> Run:
    from limakit.judge.run import judge

    workspace, recipe = make(folder, url, pairs, concurrency)
    memory = Memory(workspace.root / ".cache" / "judge")
    memory.start()
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        (path,) = judge(workspace, recipe, model=None, against=None)
    whole, cpu = time.perf_counter() - wall, time.process_time() - cpu
    rows = [json.loads(line) for line in path.read_bytes().splitlines()]
    assert len(rows) == 2 * pairs and all(row["status"] == "ok" for row in rows)
    return Run(whole, memory.last_answer - wall, cpu, memory.growth(after=1000 / len(rows)))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve()
    os.environ["LIMAKIT_PROGRESS"] = "0"
    from limakit.judge.run import judge
    from limakit.recipe import EndpointSpec

    questions = 2 * options.pairs
    with subprocess.Popen([sys.executable, __file__, "--serve"], stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            with tempfile.TemporaryDirectory() as folder:
                with contextlib.redirect_stdout(io.StringIO()):
                    judge(*make(Path(folder) / "warm", url, 20, 8), model=None, against=None)  # imports
                default = EndpointSpec().concurrency
                found = {
                    n: [measure(Path(folder) / f"{n} {i}", url, options.pairs, n) for i in range(options.runs)] for n in (default, MORE)
                }
        finally:
            server.terminate()
    ratios = {}
    for concurrency, runs in found.items():
        ideal = questions * LATENCY_S / concurrency
        ratios[concurrency] = round(statistics.median(run.wall for run in runs) / ideal, 3)
        print(f"{questions} questions, {LATENCY_S * 1000:.0f} ms each, {concurrency} at once: ideal {ideal:.2f} s")
        print("run   wall s   / ideal   until the last answer / ideal   CPU ms a question   MB grown after question 1,000")
        for i, run in enumerate(runs, start=1):
            cpu = 1000 * run.cpu / questions
            print(f"{i:3}   {run.wall:6.2f}   {run.wall / ideal:7.3f}   {run.asking / ideal:29.3f}   {cpu:17.3f}   {run.growth:29.1f}")
    runs, ideal = found[default], questions * LATENCY_S / default
    result = {
        "bench": "judging", "ours": round(statistics.median(run.wall for run in runs), 3), "peer": round(ideal, 3), "ratio": ratios[default],
        "goal": 1.15, f"ratio_{MORE}": ratios[MORE], "questions": questions, "concurrency": default, "latency_s": LATENCY_S,
        "ratio_until_the_last_answer": round(statistics.median(run.asking for run in runs) / ideal, 3),
        "cpu_ms_a_question": round(1000 * statistics.median(run.cpu for run in runs) / questions, 3),
        "rss_growth_mb": round(max(run.growth for run in runs), 1),
    }  # fmt: skip
    print(json.dumps(result))


if __name__ == "__main__":
    main()
