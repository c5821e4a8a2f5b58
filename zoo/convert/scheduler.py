"""What stands beside a network of diffusers, or in its config without being its shape: noise, and first stages.

A pipeline's `scheduler/scheduler_config.json` says on which noise its network was trained and whether images are
clipped, mixed with the steps in which it shall be drawn from (`timestep_spacing`, `use_karras_sigmas`,
`use_exponential_sigmas`, `use_beta_sigmas`), which are for those who draw to say.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zoo.config import ConfigError, build, to_dict
from zoo.diffusion import DiffusionConfig
from zoo.diffusion.schedules import STEPS
from zoo.storage import DamagedFile
from zoo.weights import read_json

FILE = "scheduler_config.json"
SCHEDULES = {"linear": "linear", "scaled_linear": "scaled_linear", "squaredcos_cap_v2": "cosine"}
"""Their `beta_schedule` -> ours."""
PREDICTIONS = {"epsilon": "noise", "sample": "x0", "v_prediction": "v"}
"""Their `prediction_type` -> ours."""
BETAS = (1e-4, 0.02)
"""What the first and the last beta are where a config is silent; of either schedule that has them."""
DISCRETE = (
    "DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "LMSDiscreteScheduler", "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler", "HeunDiscreteScheduler", "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler",
)  # fmt: skip
"""Those that stand for the discrete noise of DDPM; which one it is says only how to draw."""
FLOW = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
CLIPS = {"DDPMScheduler": True, "DDIMScheduler": True, "HeunDiscreteScheduler": False}
"""Those that can clip images, and whether they do where a config is silent."""
OTHER_NOISE = ("trained_betas", "rescale_betas_zero_snr", "use_flow_sigmas")
"""Settings that make it other noise than ours, where they are set."""
PIXEL_CHANNELS = (1, 3)
"""Images; what has others draws latents."""


def preprocessing(folder: Path, theirs: Mapping[str, Any], config: Any, loud: bool) -> dict[str, Any]:
    """The fields of `zoo.preprocess.Preprocessing` for a folder of diffusers.

    Args:
        folder: of the network, which in a pipeline has neighbours.
        theirs: its config.json.
        config: ours, made of that.
        loud: whether to warn of a scheduler that ours cannot be.
    """
    if theirs.get("_class_name") == "AutoencoderKL":
        return _images(config.in_channels, theirs.get("sample_size")) | first_stage(theirs)
    places = [folder, folder.parent] if (folder.parent / "model_index.json").is_file() else [folder]
    latents = any((place / part).is_dir() for place in places for part in ("vae", "vqvae"))
    if latents or config.in_channels not in PIXEL_CHANNELS:
        facts = {"mean": [0.0] * config.in_channels, "std": [1.0] * config.in_channels}
    else:
        facts = _images(config.in_channels, config.image_size)
    files = (place / part / FILE for place in places for part in ("", "scheduler"))
    where = next((file for file in files if file.is_file()), None)
    try:
        if where is None:
            return facts
        said = read_json(where)
        found = noise(said)
    except (ConfigError, DamagedFile) as error:
        if loud:
            warnings.warn(f"{where}: {error}; so it is not known how to draw from this network", stacklevel=2)
        return facts
    if loud and said.get("thresholding"):
        clipped = "its images are clipped at 1 instead"
        warnings.warn(f"{where}: thresholding is set, which is not known here; {clipped}", stacklevel=2)
    return facts | {"diffusion": found}


def _images(channels: int, size: Any) -> dict[str, Any]:
    """Images in [-1, 1], as all of theirs are."""
    known = {"image_size": size} if isinstance(size, int) else {}
    return {"mean": [0.5] * channels, "std": [0.5] * channels, **known}


def first_stage(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """What diffusion networks do with the latents of an AutoencoderKL, from its config.

    Raises:
        ConfigError: each channel has numbers of its own.
    """
    if theirs.get("latents_mean") is not None or theirs.get("latents_std") is not None:
        raise ConfigError("latents_mean and latents_std are set, and this architecture knows one number for all")
    return {
        "latent_scale": theirs.get("scaling_factor", 0.18215),
        "latent_shift": theirs.get("shift_factor") or 0.0,
    }


def noise(theirs: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of `zoo.diffusion.DiffusionConfig` from the config of one of their schedulers.

    Raises:
        ConfigError: it is noise that ours is not.
    """
    kind = theirs.get("_class_name")
    if kind in FLOW:
        if theirs.get("use_dynamic_shifting") or theirs.get("num_train_timesteps", STEPS) != STEPS:
            raise ConfigError(f"here the shift is one number (no use_dynamic_shifting), and timesteps end at {STEPS}")
        shift = theirs.get("shift", 1.0)
        options, words = {} if shift == 1 else {"shift": shift}, ("flow", "velocity")
    elif kind in DISCRETE:
        if odd := [name for name in OTHER_NOISE if theirs.get(name)]:
            raise ConfigError(f"{odd[0]} is set, which makes noise of another kind than is known here")
        schedule = _known(theirs, "beta_schedule", SCHEDULES, "linear")
        words = schedule, _known(theirs, "prediction_type", PREDICTIONS, "epsilon")
        options = _options(theirs, schedule)
    else:
        raise ConfigError(f"the scheduler {kind!r} is none of {', '.join((*DISCRETE, *FLOW))}")
    known = {"schedule": words[0], "schedule_options": options, "prediction": words[1], "clip": _clip(theirs)}
    return to_dict(build(DiffusionConfig, known, "the noise that it means"))


def _clip(theirs: Mapping[str, Any]) -> Any:
    """The largest number of an image; instead of thresholds that are found anew in each step, the last bound of all."""
    if theirs.get("thresholding"):
        return 1.0
    kind = theirs["_class_name"]
    clips = kind in CLIPS and theirs.get("clip_sample", CLIPS[kind])
    return theirs.get("clip_sample_range", 1.0) if clips else None


def _known(theirs: Mapping[str, Any], name: str, ours: Mapping[str, str], silent: str) -> str:
    value = theirs.get(name, silent)
    if not isinstance(value, str) or value not in ours:
        raise ConfigError(f"{name} is {value!r}, and known here are {', '.join(ours)}")
    return ours[value]


def _options(theirs: Mapping[str, Any], schedule: str) -> dict[str, float]:
    """What of a schedule is not as it is by itself."""
    own = {"linear": BETAS, "scaled_linear": (8.5e-4, 0.012)}.get(schedule)
    steps = theirs.get("num_train_timesteps", STEPS)
    options = {} if steps == STEPS else {"steps": steps}
    if own is None:
        return options
    found = theirs.get("beta_start", BETAS[0]), theirs.get("beta_end", BETAS[1])
    return options | ({} if found == own else {"start": found[0], "end": found[1]})
