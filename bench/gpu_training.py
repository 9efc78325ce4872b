"""Training on one CUDA device, at the paper's sizes: speed, memory, and the numbers that only a GPU can get wrong.

    python bench/gpu_training.py [--parts numerics,7b,13b,65b,peers] [--minutes 8.5] [--out bench/results]

7b: LLaMA 7B whole, on documents of LIMA's lengths, by limakit's own step, in a few settings; tokens/s and MFU over real tokens (no padding; what is
recomputed counts for nothing), the peak of memory. peers: the same model and documents by a padded loop with transformers alone, in two precisions,
and by TRL with packing where it is installed. 13b: whole. 65b: QLoRA. numerics: gpu_numerics.py. Weights are random and made on the device: no
files, no network. Each setting is a process of its own with a limit of its own, so that one which runs out of memory or hangs leaves the others;
what comes first matters most, and what the minutes do not suffice for is left out.

Prints a table, then one JSON object: ours (the quickest setting), peer (the quickest one), ratio, tokens_per_s, mfu, peak_gib, device. Everything
goes to a file with date, commit and device. --cpu-rehearsal runs every part's code on the CPU with tiny shapes; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PARTS = {  # by what is asked for: the processes, in the order in which they matter, and the seconds that each may take
    "numerics": {"numerics": 90},
    "7b": {"7b": 110, "7b-eager": 70, "7b-long": 80, "7b-float32": 80},
    "peers": {"peer-padded": 70, "peer-plain-bf16": 50, "peer-trl": 70},
    "13b": {"13b": 70},
    "65b": {"65b": 90},
}
ORDER = ("numerics", "7b", "7b-eager", "peer-padded", "13b", "65b", "7b-float32", "peer-plain-bf16", "7b-long", "peer-trl")
ROOT = Path(__file__).resolve().parent.parent


def run_part(name: str, rehearsal: bool) -> dict[str, Any]:
    """One part, in this process."""
    os.environ.setdefault(
        "PYTORCH_ALLOC_CONF", "expandable_segments:True"
    )  # rows differ in length: without it memory is lost between blocks
    os.environ.setdefault("LIMAKIT_PROGRESS", "0")
    if rehearsal:
        os.environ["TORCHDYNAMO_DISABLE"] = "1"  # torch.compile then does nothing: a C++ compiler is not what is rehearsed
    import torch
    from gpu_parts import Bench, all_parts

    device = torch.device("cpu" if rehearsal else "cuda")
    outcome = dict(all_parts(Bench(device, rehearsal)))[name]()
    return outcome | {"device": "cpu" if rehearsal else torch.cuda.get_device_name(), "torch": torch.__version__}


def in_a_process(name: str, rehearsal: bool, seconds: float) -> dict[str, Any]:
    """One part in a process of its own: what it found, or an `error`."""
    command = [sys.executable, str(Path(__file__).resolve()), "--one", name, *(["--cpu-rehearsal"] if rehearsal else [])]
    path = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])  # also where limakit is not installed
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command, stdout=output, stderr=errors, start_new_session=True, env=os.environ | {"PYTHONPATH": path, "HF_HUB_OFFLINE": "1"}
        )  # fmt: skip
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # its compiler's helpers too
            process.wait()
            return {"error": f"took more than {seconds:.0f} s"}
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        output.seek(0), errors.seek(0)
        lines, said = output.read().decode(errors="replace").splitlines(), errors.read().decode(errors="replace").splitlines()
    try:
        if process.returncode == 0:
            return json.loads(lines[-1])
    except (ValueError, IndexError):
        pass
    reason = next(
        (line for line in reversed(said) if re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)), f"exit code {process.returncode}"
    )
    return {"error": reason[:400], "stderr": said[-30:]}


def shown(name: str, found: dict[str, Any]) -> str:
    """A line of the table."""
    if "error" in found or "skipped" in found:
        return f"{name:<16} {found.get('error') or found['skipped']}"
    if "checks" in found:
        return f"{name:<16} {len(found['checks']) - len(found['failed'])} of {len(found['checks'])} hold" + "".join(
            f"\n    {'' if one['ok'] else 'FAILS '}{what}: {one.get('error') or format(one['figure'], '.3g')} (at most {one['limit']})"
            for what, one in found["checks"].items()
        )
    mfu = f"{100 * found['mfu']:5.1f} %" if found.get("mfu") is not None else "      -"
    return (
        f"{name:<16} {found['tokens_per_s']:>10,.0f} {mfu} {found['peak_gib']:>8.1f} {found['step_s']:>8.3f} {found.get('attention', '')}"
    )


def summary(results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """The last line: our quickest setting of 7B beside the quickest peer."""
    speeds = {name: found["tokens_per_s"] for name, found in results.items() if "tokens_per_s" in found}
    ours = max((name for name in speeds if name.startswith("7b")), key=speeds.__getitem__, default=None)
    peer = max((name for name in speeds if name.startswith("peer")), key=speeds.__getitem__, default=None)
    best = results.get(ours or "", {})
    return {
        "ours": ours, "peer": peer, "ratio": round(speeds[ours] / speeds[peer], 3) if ours and peer else None,
        "tokens_per_s": speeds.get(ours or ""), "peer_tokens_per_s": speeds.get(peer or ""), "mfu": best.get("mfu"), "peak_gib": best.get("peak_gib"),
        "device": next((found["device"] for found in results.values() if "device" in found), None),
        "failed": [name for name, found in results.items() if "error" in found] + results.get("numerics", {}).get("failed", []),
    }  # fmt: skip


def commit() -> str:
    """The commit that is measured; "unknown" where there is no git, with a + where files differ from it."""
    try:
        said = subprocess.run(["git", "describe", "--always", "--dirty=+"], cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return said.stdout.strip()


def write(folder: Path, last: dict[str, Any], results: dict[str, dict[str, Any]]) -> Path:
    """Everything that was found, into a file of its own."""
    now = datetime.now(UTC)
    device = re.sub(r"[^a-z0-9]+", "-", str(last["device"] or "none").lower()).strip("-")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"gpu_training-{device}-{now:%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps({"date": now.isoformat(timespec="seconds"), "commit": commit(), **last, "parts": results}, indent=1) + "\n")
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--minutes", type=float, default=8.5)
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results")
    parser.add_argument("--cpu-rehearsal", action="store_true")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.one:
        print(json.dumps(run_part(asked.one, asked.cpu_rehearsal)))
        return
    wanted = asked.parts.split(",")
    limits: dict[str, int] = {}
    for part in wanted:
        found = PARTS.get(part) or {name: seconds for own in PARTS.values() for name, seconds in own.items() if name == part}
        if not found:
            parser.error(f"no part {part!r}; there are {', '.join(PARTS)}, and the processes {', '.join(ORDER)}")
        limits |= found
    end = time.monotonic() + 60 * asked.minutes
    results: dict[str, dict[str, Any]] = {}
    print(f"{'':<16} {'tokens/s':>10} {'MFU':>7} {'peak GiB':>8} {'s a step':>8}", flush=True)
    for name in (name for name in ORDER if name in limits):
        left = end - time.monotonic()
        results[name] = in_a_process(name, asked.cpu_rehearsal, min(limits[name], left)) if left > 15 else {"skipped": "no time left"}
        print(shown(name, results[name]), flush=True)
    last = summary(results)
    print(f"written to {write(asked.out, last, results)}")
    print(json.dumps(last))


if __name__ == "__main__":
    main()
