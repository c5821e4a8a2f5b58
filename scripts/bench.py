"""Compare the speed of our networks with a peer's on this machine: `python scripts/bench.py --vs timm`.

Prints a table and writes benchmarks/<library>.json. Ratios are ours over theirs; the control is ours over itself.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import language  # noqa: E402 - it lies beside this folder, in none that is installed
from benchmarks.peers import compare, save  # noqa: E402 - likewise


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vs", choices=("torchvision", "timm", "transformers"), required=True, help="the library")
    parser.add_argument("--only", default="", help="presets whose name contains this; nothing is written then")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each comparison")
    given = parser.parse_args()
    rows = []
    print(f"{'PRESET':<20}{'MODE':<24}{'RATIO':>8}{'CONTROL':>9}{'OURS':>12}  PEER")  # noqa: T201 - the script's answer
    pairs = (
        language.compare(given.only, given.seconds)
        if given.vs == "transformers"
        else compare(given.vs, given.only, given.seconds)
    )
    for row in pairs:
        rows.append(row)
        line = f"{row.preset:<20}{row.mode:<24}{row.ratio:>8.4f}{row.control:>9.3f}{row.ours_ms:>9.1f} ms  {row.peer}"
        print(line, flush=True)  # noqa: T201
    if not given.only:
        save(rows, ROOT / "benchmarks" / f"{given.vs}.json")


if __name__ == "__main__":
    main()
