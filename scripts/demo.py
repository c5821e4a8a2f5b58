"""The zoo in under three minutes: `make demo`, or `python scripts/demo.py --out FOLDER`."""

import argparse
import sys
from pathlib import Path

from zoo.cli import errors
from zoo.cli.demo import demo

ROOT = Path(__file__).parents[1]


def main() -> int:
    """Parse and call."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="where the page and the runs go (demo)")
    try:
        demo(parser.parse_args().out, ROOT / "configs")
    except (Exception, KeyboardInterrupt) as error:
        return errors.report(error, debug=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
