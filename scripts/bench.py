"""Compare the speed of our networks with a peer's on this machine: `python scripts/bench.py --vs timm`.

Prints a table and writes benchmarks/<library>.json. Ratios are ours over theirs; the control is ours over itself.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks import clip, generative, language, peers  # noqa: E402 - beside this folder, in none that is installed


def main() -> None:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__)
    libraries = ("torchvision", "timm", "transformers", "diffusers", "open_clip")
    parser.add_argument("--vs", choices=libraries, required=True, help="the library")
    parser.add_argument("--only", default="", help="presets whose name contains this; nothing is written then")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each comparison")
    given = parser.parse_args()
    rows = []
    print(f"{'PRESET':<20}{'MODE':<24}{'RATIO':>8}{'CONTROL':>9}{'OURS':>12}  PEER")  # noqa: T201 - the script's answer
    compare = {"transformers": language.compare, "diffusers": generative.compare, "open_clip": clip.compare}
    usual = partial(peers.compare, given.vs)
    for row in compare.get(given.vs, usual)(given.only, given.seconds):
        rows.append(row)
        ours = f"{row.ours:.1f} {row.unit}"
        line = f"{row.preset:<20}{row.mode:<24}{row.ratio:>8.4f}{row.control:>9.3f}{ours:>12}  {row.peer}"
        print(line, flush=True)  # noqa: T201
    if not given.only:
        peers.save(rows, ROOT / "benchmarks" / f"{given.vs}.json")


if __name__ == "__main__":
    main()
