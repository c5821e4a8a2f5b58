"""Numbers and keys as a reader wants them."""

SHARES = ("accuracy",)


def named(metric: str) -> str:
    """A metric's key in words: `lr` is the learning rate."""
    return "learning rate" if metric == "lr" else metric.replace("_", " ")


def measured(metric: str, value: float) -> str:
    """A metric's value; shares are given in per cent."""
    return f"{100 * value:.2f}\u202f%" if metric.endswith(SHARES) else f"{value:.4g}"


def duration(seconds: float) -> str:
    """`8.3 s`, `2 min 05 s`, `3 h 20 min`."""
    if seconds < 60:
        return f"{seconds:.1f}\u202fs"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
