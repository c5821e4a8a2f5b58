"""Plots and pages of runs: `run_page(folder)` writes one self-contained HTML file, and its plots as PNGs."""

from zoo.report.run import run_page

__all__ = ["run_page"]
