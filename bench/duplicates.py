"""How fast copies and leaks are found: signatures, the index, decontamination. Texts are drawn with the lengths of LIMA's.

    python bench/duplicates.py [--documents 3000] [--seed 1]

CPU seconds of one process. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import time
import tracemalloc
from collections.abc import Callable, Sequence

from limakit.curate.decontaminate import Guard
from limakit.curate.duplicates import NearIndex, fingerprint, sketch
from limakit.records import Turn


def rate(work: Callable[[], object], n: int) -> float:
    started = time.process_time()
    work()
    return n / (time.process_time() - started)


def texts(rng: random.Random, n: int, median: float, spread: float) -> list[str]:
    """Words by Zipf's law out of 50,000, one in fifty with an accent (half of all real texts have some character that is not ASCII)."""
    vocabulary = ["".join(rng.choices("etaoinshrdlu", k=rng.randrange(2, 10))) + ("é" if i % 50 == 49 else "") for i in range(50_000)]
    weights = [1 / (i + 10) for i in range(len(vocabulary))]
    return [" ".join(rng.choices(vocabulary, weights, k=int(rng.lognormvariate(0, spread) * median) + 1)) for _ in range(n)]


def main(argv: Sequence[str] | None = None) -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--documents", type=int, default=3000)
    arguments.add_argument("--seed", type=int, default=1)
    asked = arguments.parse_args(argv)
    rng, n = random.Random(asked.seed), asked.documents
    responses, prompts = texts(rng, n, 350, 0.6), texts(rng, n, 60, 0.8)
    candidates = [(Turn(role="user", text=p), Turn(role="assistant", text=r)) for p, r in zip(prompts, responses, strict=True)]
    guard = Guard(near=0.8, ngram=13)
    for i, (prompt, reference) in enumerate(zip(texts(rng, 350, 20, 0.8), texts(rng, 350, 350, 0.6), strict=True)):
        guard.add("test" if i < 300 else "dev", f"t{i}", (Turn(role="user", text=prompt),), reference)
    index = NearIndex(0.8)
    sketches = [sketch(text) for text in responses]  # the cache of words is warm from here on, as it is in a run of any length

    figures = {
        "fingerprints": rate(lambda: [fingerprint(turns) for turns in candidates], n),
        "sketches": rate(lambda: [sketch(text) for text in responses], n),
        "added to the index": rate(lambda: [index.add(str(i), text) for i, text in enumerate(sketches)], n),
        "asked of the index": rate(lambda: [index.near(text) for text in sketches], n),
        "decontaminated": rate(lambda: [guard.problem(turns) for turns in candidates], n),
    }
    tracemalloc.start()
    again = NearIndex(0.8)
    for i, text in enumerate(responses):
        again.add(str(i), sketch(text))
    entry = tracemalloc.get_traced_memory()[0] / n
    tracemalloc.stop()
    words = sum(len(text.split()) for text in responses) / n
    print(f"{n:,} examples, {words:.0f} words a response; per second and core")
    for name, figure in figures.items():
        print(f"{name:<20} {figure:>10,.0f}")
    print(f"{'bytes an entry':<20} {entry:>10,.0f}")
    print(
        json.dumps({"documents": n, "words": round(words)} | {k: round(v) for k, v in figures.items()} | {"bytes_an_entry": round(entry)})
    )


if __name__ == "__main__":
    main()
