"""Diffusion: how images become noise, what a network learns from it, and the ways back. No network is known here."""

from zoo.diffusion.bound import bits_per_dim, divergence
from zoo.diffusion.drawing import draw
from zoo.diffusion.predictions import PREDICTIONS, Prediction
from zoo.diffusion.process import Diffusion, DiffusionConfig, Estimate, guided
from zoo.diffusion.samplers import SAMPLERS, Draw, ddim, dpm_solver, heun
from zoo.diffusion.schedules import SCHEDULES, Schedule

__all__ = [
    "PREDICTIONS",
    "SAMPLERS",
    "SCHEDULES",
    "Diffusion",
    "DiffusionConfig",
    "Draw",
    "Estimate",
    "Prediction",
    "Schedule",
    "bits_per_dim",
    "ddim",
    "divergence",
    "dpm_solver",
    "draw",
    "guided",
    "heun",
]
