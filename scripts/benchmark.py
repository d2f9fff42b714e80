"""Print our speed beside the peers', as ratios of figures that were measured in turn in one run; see ``--help``."""

import argparse
import importlib
import os
import statistics
import sys
from pathlib import Path

TOPICS = sorted(path.stem for path in (Path(__file__).parent / "benchmarks").glob("[a-z]*.py") if path.stem != "endurance")


def main() -> int:
    """Run the benchmarks of the chosen topics; exit with 1 if a ratio lies below its bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("topics", nargs="*", metavar="TOPIC", help=f"which to run, default all: {', '.join(TOPICS)}")
    parser.add_argument("--threads", type=int, default=1, help="threads of every library, and cores to run on (default 1)")
    args = parser.parse_args()
    if unknown := set(args.topics) - set(TOPICS):
        parser.error(f"unknown topics {sorted(unknown)}; known: {', '.join(TOPICS)}")
    for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[variable] = str(args.threads)
    if hasattr(os, "sched_setaffinity"):  # Linux: keep away from the other cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.threads :])

    from rich.console import Console
    from rich.table import Table

    table = Table("what", "ours", "peer", "ratio, median (min - max)", "at least", title=f"{args.threads} thread(s)")
    missed = 0
    for topic in args.topics or TOPICS:
        for what, unit, ours, peer, at_least in importlib.import_module(f"benchmarks.{topic}").rows():
            # a row without a peer is held against a figure
            ratios = [a / b for a, b in zip(ours, peer, strict=True)] if peer else ours
            reached = statistics.median(ratios)
            missed += reached < at_least
            spread = f"{reached:.3g} ({min(ratios):.3g} - {max(ratios):.3g})"
            figures = [f"{statistics.median(rates):,.4g} {unit}" if rates else "" for rates in (ours, peer)]
            table.add_row(what, *figures, spread, f"{at_least:.3g}{'' if reached >= at_least else '  MISSED'}")
            print(f"{what}: {spread}, at least {at_least:.3g}", file=sys.stderr, flush=True)
    Console(width=max(140, Console().width)).print(table)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
