"""What a study costs, against plain forwards and against other packages. Run by hand on a quiet machine: `make bench`.

Prints a line for each row; `--write` writes docs/performance.md with its figure. Never part of the test suite: a ratio
is read by a person.
"""

import argparse
import json
import platform
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "docs" / "performance.json"


def main() -> None:
    """Time what the command line asks for."""
    from vitdsl.runtime.cores import settle_threads

    settle_threads()
    import torch
    from beside import beside
    from curves import curves
    from page import write
    from rows import Bench, Row, as_json
    from texts import PAIR

    from vitdsl.runtime.run.environment import environment_facts
    from vitdsl.runtime.run.memory import keep_freed_memory

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", nargs="*", help="rows, or `curves`, or `peers`; all of them without any")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--vit", default=PAIR["vit"])
    parser.add_argument("--res", default=PAIR["res"])
    parser.add_argument("--write", action="store_true", help="add what was timed to docs/performance.*")
    options = parser.parse_args()
    device = torch.device(options.device)
    keep_freed_memory()
    pair = {"vit": options.vit, "res": options.res}
    bench = Bench(options.images, options.batch, options.runs, device, options.dtype, pair)
    rows = bench.rows()
    wanted = options.what or [*rows, "peers", "curves"]
    unknown = sorted(set(wanted) - {*rows, "peers", "curves"})
    if unknown:
        parser.error(f"no row {', '.join(unknown)}; there are {', '.join([*rows, 'peers', 'curves'])}")
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if options.write and RESULTS.is_file() else {}
    there = environment_facts()
    found["machine"] = {
        **{name: there[name] for name in ("cpu", "cores", "threads", "python")},
        "torch": torch.__version__,
        "device": str(device),
        "system": platform.system(),
        "images": options.images,
        "batch": options.batch,
        "runs": options.runs,
        **pair,
    }
    print(json.dumps(found["machine"]), flush=True)
    for name in wanted:
        if name == "curves":
            found[name] = curves(device, options.dtype, options.runs)
        elif name == "peers":
            found[name] = beside(bench)
        else:
            row: Row = rows[name]()
            found.setdefault("rows", {})[name] = as_json(row)
        print(name, json.dumps(found.get(name) or found["rows"][name]), flush=True)
        if options.write:
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")
            write(found, ROOT / "docs")


if __name__ == "__main__":
    main()
