"""Time and memory of the two strategies over embeddings, k-center and facility location, on random unit vectors (their worst case: nothing clusters).

    python bench/pick.py [--rows 52000] [--dimensions 384] [--take 1000]

Beside them lazy greedy (Minoux 1978) on a part of the rows, for which it is quick enough. Prints a table, then one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time

os.environ.setdefault("LIMAKIT_PROGRESS", "0")

import numpy as np

from limakit.pick.facility_location import facility_location, objective
from limakit.pick.k_center import k_center
from limakit.pick.rows import Rows, drawn_order

SMALL = 6_000  # rows for the comparison with lazy greedy
AT_ONCE = 64  # bounds that lazy greedy renews at a time: one by one it would be slower still


def unit_rows(n: int, d: int, clusters: int = 0) -> Rows:
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((n, d), np.float32)
    if clusters:
        vectors += draw.standard_normal((clusters, d), np.float32)[draw.integers(0, clusters, n)]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Rows(tuple(map(str, range(n))), vectors=vectors)


def lazy_greedy(vectors: np.ndarray, take: int) -> list[int]:
    best = np.full(len(vectors), -1, np.float32)
    bound = len(vectors) + vectors @ vectors.sum(axis=0)
    fresh = np.full(len(vectors), -1)
    picks: list[int] = []
    for k in range(take):
        while True:
            top = np.argpartition(-bound, AT_ONCE)[:AT_ONCE]
            top = top[np.argsort(-bound[top])]
            if fresh[top[0]] == k:
                break
            top = top[fresh[top] != k]
            bound[top] = np.maximum(vectors @ vectors[top].T - best[:, None], 0).sum(axis=0)
            fresh[top] = k
        picks.append(int(top[0]))
        np.maximum(best, vectors @ vectors[top[0]], out=best)
        bound[top[0]] = -np.inf
    return picks


def timed(work, *arguments):
    """(what it returns, wall seconds, CPU seconds, peak MB of the process so far)"""
    wall, cpu = time.perf_counter(), time.process_time()
    result = work(*arguments)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return result, wall, cpu, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=52_000)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--take", type=int, default=1_000)
    asked = parser.parse_args()
    made: dict[str, object] = {"rows": asked.rows, "dimensions": asked.dimensions, "take": asked.take, "limit_mb": 4000}
    print(f"{'strategy':<44}{'seconds':>9}{'CPU s':>9}{'peak MB':>9}{'F(S)/n':>9}")

    def line(name: str, wall: float, cpu: float, peak: float, reached: float) -> None:
        print(f"{name:<44}{wall:>9.1f}{cpu:>9.1f}{peak:>9.0f}{reached:>9.4f}", flush=True)

    for clusters, kind in ((0, "random vectors"), (50, "50 clusters")):
        few = unit_rows(min(SMALL, asked.rows), 128, clusters)
        take = min(300, len(few) // 4)
        ours, wall, cpu, peak = timed(facility_location, few, take)
        line(f"facility location, {len(few)} rows, {kind}", wall, cpu, peak, objective(few.vectors, list(ours.order)))
        picks, lazy_wall, lazy_cpu, peak = timed(lazy_greedy, few.vectors, take)
        line(f"lazy greedy, {len(few)} rows, {kind}", lazy_wall, lazy_cpu, peak, objective(few.vectors, picks))
        made[f"lazy_over_ours_{clusters}_clusters"] = round(lazy_cpu / cpu, 2)
    rows = unit_rows(asked.rows, asked.dimensions)
    chance = objective(rows.vectors, drawn_order(rows.ids, 1)[: asked.take])
    for name, strategy in (("k_center", k_center), ("facility_location", facility_location)):
        picks, wall, cpu, peak = timed(strategy, rows, asked.take)
        reached = objective(rows.vectors, list(picks.order))
        line(f"{name}, {asked.rows} x {asked.dimensions}, {asked.take} picks", wall, cpu, peak, reached)
        made |= {f"{name}_s": round(wall, 1), f"{name}_cpu_s": round(cpu, 1), f"{name}_objective": round(reached, 4)}
        made["peak_mb"] = round(peak)
    print(f"random picks reach {chance:.4f}")
    print(json.dumps(made | {"random_objective": round(chance, 4)}))


if __name__ == "__main__":
    main()
