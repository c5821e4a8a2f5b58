"""Libraries whose import warns of matters that are not ours; tests and benchmarks import them here alone."""

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import open_clip
    import open_clip.model

__all__ = ["open_clip"]
