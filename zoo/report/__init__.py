"""Plots and pages: `run_page` of one run, `compare_page` of several, each a self-contained HTML file and PNGs."""

from zoo.report.compare import compare_page
from zoo.report.run import run_page

__all__ = ["compare_page", "run_page"]
