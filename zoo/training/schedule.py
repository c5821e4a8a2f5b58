"""The learning rate as a pure function of the step, so that a resumed run needs no scheduler state."""

import math

from zoo.training.run import ScheduleConfig


def factor(config: ScheduleConfig, step: int, steps: int) -> float:
    """The share of the full learning rate at a step.

    Args:
        config: warm-up, hold, and the shape of the fall.
        step: from 0 to steps - 1.
        steps: the length of the run.

    Returns:
        A number in [0, 1]: rises linearly during the warm-up, stays 1, then falls to `config.final`.

    Source: the cosine is Loshchilov & Hutter, 2017, eq. 5, without restarts.
    """
    warmup = config.warmup * steps if config.warmup < 1 else config.warmup
    if step < warmup:
        return (step + 1) / (math.ceil(warmup) + 1)
    start = warmup + config.hold * steps
    if config.name == "constant" or step < start:
        return 1.0
    progress = min(1.0, (step - start) / max(1.0, steps - start))
    fall = (1 + math.cos(math.pi * progress)) / 2 if config.name == "cosine" else 1 - progress
    return config.final + (1 - config.final) * fall
