"""Diffusion: schedules, predictions and samplers, by their equations and beside the diffusers library."""

import math

import pytest
import torch

from zoo.diffusion import PREDICTIONS, SAMPLERS, SCHEDULES, Diffusion, DiffusionConfig, ddim, draw, guided
from zoo.diffusion.schedules import Discrete, linear

SHAPE = (3, 2, 4, 4)
PAIRS = [
    *((schedule, prediction) for schedule in ("linear", "cosine", "sigmoid") for prediction in ("noise", "x0", "v")),
    ("flow", "velocity"),
    ("flow", "x0"),
    ("edm", "edm"),
]
each_pair = pytest.mark.parametrize(("schedule", "prediction"), PAIRS, ids=["-".join(pair) for pair in PAIRS])


def normal(seed, shape=SHAPE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def diffusion(schedule="linear", prediction="noise"):
    return Diffusion(schedule=SCHEDULES[schedule](), prediction=PREDICTIONS[prediction])


def moments(schedule, count=3):
    """Timesteps away from both ends."""
    return schedule.timesteps(count + 2)[1:-1]


def network(x, timestep):
    """Something that depends on everything it is given, and not on other rows."""
    time = (timestep.float() / 300).sin().view(-1, 1, 1, 1)
    return 0.6 * (x * (1 + 0.2 * time)).tanh() + 0.1 * x.roll(1, -1) * time


@pytest.mark.parametrize("name", ["linear", "cosine", "sigmoid"])
def test_a_discrete_schedule_keeps_the_variance_and_ends_in_noise(name):
    schedule = SCHEDULES[name]()
    alpha, sigma = schedule.level(torch.arange(1000))
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(1000))
    assert (alpha[1:] < alpha[:-1]).all()
    assert alpha[0] > 0.999
    assert alpha[-1] < 0.01


@pytest.mark.parametrize("name", SCHEDULES)
def test_forward_noising_has_the_schedule_s_mean_and_variance(name):
    process, image = diffusion(name, "noise"), torch.full((200_000, 1), 0.7)
    for timestep in moments(process.schedule):
        alpha, sigma = process.schedule.level(timestep)
        x = process.noisy(image, normal(int(abs(timestep) * 10), image.shape), timestep.expand(len(image)))
        assert x.mean().item() == pytest.approx(0.7 * alpha.item(), abs=5 * sigma.item() / len(image) ** 0.5)
        assert x.std().item() == pytest.approx(sigma.item(), rel=0.01)


def test_a_discrete_schedule_noises_step_by_step_to_the_same_level():
    beta, alpha_bar = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 1.0
    for step, part in enumerate(beta):
        alpha_bar *= 1 - part
        if step in (0, 499, 999):
            assert linear().level(torch.tensor(step))[0].item() ** 2 == pytest.approx(alpha_bar.item(), rel=1e-6)


@each_pair
def test_image_and_noise_are_found_again_from_what_is_to_be_predicted(schedule, prediction):
    process, image, noise = diffusion(schedule, prediction), normal(0), normal(1)
    timestep = moments(process.schedule)
    x = process.noisy(image, noise, timestep)
    found = process.estimate(x, process.target(image, noise, timestep), timestep)
    sigma = process.schedule.level(timestep)[1].view(-1, 1, 1, 1)
    assert ((found.image - image).abs() / sigma.clamp(min=1)).max() < 2e-4
    assert ((found.noise - noise).abs() * sigma.clamp(max=1)).max() < 2e-4


def test_a_clipped_image_comes_with_the_noise_that_explains_the_rest():
    process, x, timestep = diffusion(), 3 * normal(0), torch.tensor([300, 500, 700])
    image, noise, _ = process.estimate(x, normal(1), timestep, clip=1.0)
    assert image.abs().max() == 1
    assert torch.allclose(process.noisy(image, noise, timestep), x, atol=1e-5)


@pytest.mark.parametrize("sampler", SAMPLERS)
@each_pair
def test_a_network_that_knows_the_image_leads_every_sampler_to_it(sampler, schedule, prediction):
    process, image = diffusion(schedule, prediction), normal(0)
    steps = process.schedule.timesteps(7)

    def knowing(scaled, timestep):
        alpha, sigma = (level.view(-1, 1, 1, 1) for level in process.schedule.level(timestep))
        x = scaled / process.prediction.scale(alpha, sigma)
        return process.target(image, (x - alpha * image) / sigma, timestep)

    start = process.noisy(image, normal(1), steps[:1].expand(3))
    *_, found = SAMPLERS[sampler](process, knowing, start, steps)
    assert (found - image).abs().max() < 2e-3


@each_pair
def test_more_steps_lead_the_samplers_of_the_equation_to_one_image(schedule, prediction):
    process = diffusion(schedule, prediction)
    steps = process.schedule.timesteps(250)
    start = normal(1) * process.schedule.level(steps[0])[1]

    def wiener(scaled, timestep):
        """The best answer where images are normally distributed with a deviation of a half: the path is then known."""
        alpha, sigma = (level.view(-1, 1, 1, 1) for level in process.schedule.level(timestep))
        x = scaled / process.prediction.scale(alpha, sigma)
        image = 0.25 * alpha / (0.25 * alpha**2 + sigma**2) * x
        return process.target(image, (x - alpha * image) / sigma, timestep)

    alpha, sigma = process.schedule.level(steps[0])
    expected = 0.5 * start / (0.25 * alpha**2 + sigma**2).sqrt()
    for sampler in ("ddim", "heun", "dpm_solver"):
        *_, found = SAMPLERS[sampler](process, wiener, start, steps)
        assert (found - expected).abs().max() < 0.02 * expected.abs().max(), sampler


def test_noise_that_is_drawn_anew_keeps_the_distribution_of_images():
    process = diffusion("cosine", "x0")

    def wiener(x, timestep):
        alpha, sigma = (level.view(-1, 1) for level in process.schedule.level(timestep))
        return 0.25 * alpha / (0.25 * alpha**2 + sigma**2) * x

    steps, shape = process.schedule.timesteps(500), (20_000, 1)
    for eta in (0.0, 0.5, 1.0):
        *_, found = ddim(process, wiener, normal(0, shape), steps, eta=eta, draw=lambda step: normal(step + 1, shape))
        assert found.std().item() == pytest.approx(0.5, rel=0.02)


def test_guidance_of_one_is_no_guidance_and_none_is_asked():
    asked = []

    def labelled(x, timestep, label):
        asked.append(label.tolist())
        return x * label.view(-1, 1, 1, 1)

    x, time, label, nothing = normal(0), torch.zeros(3), torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3)
    assert torch.equal(guided(labelled, label, nothing, 1)(x, time), labelled(x, time, label))
    assert nothing.tolist() not in asked
    assert torch.allclose(guided(labelled, label, nothing, 3)(x, time), 3 * x * label.view(-1, 1, 1, 1))


def test_steps_are_as_many_as_the_schedule_has():
    assert linear().timesteps(1000).tolist() == list(range(999, -1, -1))
    assert linear().timesteps(4).tolist() == [999, 749, 499, 249]
    with pytest.raises(ValueError, match="steps 1001 is not in 1 to 1000"):
        linear().timesteps(1001)


BETAS = {
    "linear": {"beta_schedule": "linear"},
    "scaled_linear": {"beta_schedule": "scaled_linear", "beta_start": 8.5e-4, "beta_end": 0.012},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
}


@pytest.mark.peers
@pytest.mark.parametrize("name", BETAS)
def test_levels_are_the_peer_s(name):
    diffusers = pytest.importorskip("diffusers")
    theirs = diffusers.DDPMScheduler(**BETAS[name]).alphas_cumprod
    assert torch.allclose(SCHEDULES[name]().alpha_bar.float(), theirs, rtol=1e-4)


SCHEDULERS = {
    # a name for the case: our sampler and its steps beside the peer's scheduler
    "ddpm": ("ddpm", "DDPMScheduler", {"clip_sample": False}),
    "ddpm, clipped": ("ddpm", "DDPMScheduler", {"clip_sample": True}),
    "ddpm, clipped at 2": ("ddpm", "DDPMScheduler", {"clip_sample_range": 2.0}),
    "ddim": ("ddim", "DDIMScheduler", {"clip_sample": False}),
    "ddim, clipped": ("ddim", "DDIMScheduler", {}),
    "ddim, clipped at 2": ("ddim", "DDIMScheduler", {"clip_sample_range": 2.0}),
    "ddim of v": ("ddim", "DDIMScheduler", {"clip_sample": False, "prediction_type": "v_prediction"}),
    "dpm_solver": ("dpm_solver", "DPMSolverMultistepScheduler", {"final_sigmas_type": "zero"}),
    "heun": ("heun", "HeunDiscreteScheduler", {"beta_start": 1e-4, "beta_end": 0.02}),
    "heun, clipped": ("heun", "HeunDiscreteScheduler", {"beta_start": 1e-4, "beta_end": 0.02, "clip_sample": True}),
}


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # the peer's own
@pytest.mark.parametrize("case", SCHEDULERS)
def test_trajectories_are_the_peer_s(case):
    diffusers = pytest.importorskip("diffusers")
    name, peer, options = SCHEDULERS[case]
    scheduler = getattr(diffusers, peer)(**{"beta_schedule": "linear", "timestep_spacing": "trailing"} | options)
    scheduler.set_timesteps(20)
    prediction = {"v_prediction": "v"}.get(options.get("prediction_type"), "noise")
    process, start = diffusion("linear", prediction), normal(0)
    theirs, theirs_seen = start * scheduler.init_noise_sigma, []
    for timestep in scheduler.timesteps:
        output = network(scheduler.scale_model_input(theirs, timestep), timestep.expand(3))
        if peer == "DDPMScheduler":
            theirs = without_noise(scheduler, output, timestep, theirs)
        else:
            theirs = scheduler.step(output, timestep, theirs).prev_sample
        theirs_seen.append(theirs)
    steps = scheduler.timesteps.unique().flip(0).long()
    assert torch.equal(steps, process.schedule.timesteps(20))
    clip = scheduler.config.clip_sample_range if scheduler.config.get("clip_sample") else None
    seen = list(SAMPLERS[name](process, network, start, steps, clip=clip))
    if name == "heun":  # in units of y = x / alpha there, with two questions a step
        levels = [1.0, *(process.schedule.level(step)[0].item() for step in steps.flip(0))][:20][::-1]
        theirs_seen = [y * alpha for y, alpha in zip(theirs_seen[1::2] + theirs_seen[-1:], levels, strict=True)]
    assert len(seen) == len(theirs_seen)
    for ours, expected in zip(seen, theirs_seen, strict=True):
        assert (ours - expected).abs().max() < 1e-4 * max(1, expected.abs().max())


def without_noise(scheduler, output, timestep, x):
    """The mean of the peer's step: it is drawn twice, with opposite noises."""
    means = []
    for sign in (1, -1):
        scheduler_noise = sign * normal(5)
        means.append(step_with(scheduler, output, timestep, x, scheduler_noise))
    return (means[0] + means[1]) / 2


def step_with(scheduler, output, timestep, x, noise):
    import diffusers.schedulers.scheduling_ddpm as module

    kept = module.randn_tensor
    module.randn_tensor = lambda *_, **__: noise
    try:
        return scheduler.step(output, timestep, x).prev_sample
    finally:
        module.randn_tensor = kept


@pytest.mark.parametrize("schedule", ["linear", "cosine", "sigmoid", "flow"])
def test_heun_s_first_step_is_not_lost_where_there_is_next_to_no_image(schedule):
    """A network that errs a little: over the width of cosine's first step in sigma / alpha it would be all there is."""
    process, image, error = diffusion(schedule), normal(3).clamp(-0.9, 0.9), 0.02 * normal(4)

    def errs(x, timestep):
        alpha, sigma = (level.view(-1, 1, 1, 1) for level in process.schedule.level(timestep))
        return (x - alpha * image) / sigma + error

    for x in SAMPLERS["heun"](process, errs, normal(0), process.schedule.timesteps(10), clip=1.0):
        assert x.abs().max() < 6


@pytest.mark.peers
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_flow_s_steps_are_the_peer_s(shift):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    process = Diffusion(schedule=SCHEDULES["flow"](shift=shift), prediction=PREDICTIONS["velocity"])
    steps = process.schedule.timesteps(12)
    scheduler.set_timesteps(sigmas=[1 - i / 12 for i in range(12)])
    assert torch.allclose(scheduler.timesteps, steps, rtol=1e-6)
    theirs = normal(0)
    for timestep, ours in zip(scheduler.timesteps, ddim(process, network, normal(0), steps), strict=True):
        theirs = scheduler.step(network(theirs, timestep.expand(3)), timestep, theirs).prev_sample
        assert (ours - theirs).abs().max() < 1e-4


@pytest.mark.peers
def test_edm_s_steps_are_the_peer_s():
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.EDMEulerScheduler()
    scheduler.set_timesteps(10)
    process = diffusion("edm", "edm")
    steps = process.schedule.timesteps(10)
    theirs = start = normal(0) * scheduler.sigmas[0]
    for timestep, ours in zip(scheduler.timesteps, ddim(process, network, start, steps), strict=True):
        output = network(scheduler.scale_model_input(theirs, timestep), timestep.expand(3))
        theirs = scheduler.step(output, timestep, theirs).prev_sample
        assert (ours - theirs).abs().max() < 1e-4 * max(1, theirs.abs().max())


def test_schedules_of_other_lengths_and_shapes_are_possible():
    few = Discrete(torch.tensor([0.9, 0.5, 0.1], dtype=torch.float64))
    assert few.timesteps(3).tolist() == [2, 1, 0]
    assert few.draw(torch.tensor([0.0, 0.4, 0.99])).tolist() == [0, 1, 2]
    assert math.isclose(few.level(torch.tensor(1))[0].item(), math.sqrt(0.5), rel_tol=1e-6)


def test_a_network_that_says_the_variance_gives_ddpm_more_noise_and_the_other_samplers_none():
    process = diffusion()

    def saying(spread):
        return lambda x, timestep: torch.cat([network(x, timestep), torch.full_like(x, 2 * spread - 1)], 1)

    def drawn(name, model, noise=True):
        anew = {"draw": lambda step: normal(step + 2)} if name == "ddpm" and noise else {}
        return next(SAMPLERS[name](process, model, normal(0), process.schedule.timesteps(10), **anew))

    for name in ("ddim", "heun", "dpm_solver"):
        assert torch.equal(drawn(name, saying(1.0)), drawn(name, network))
    mean, smallest = drawn("ddpm", network, noise=False), drawn("ddpm", network)
    assert torch.equal(drawn("ddpm", saying(0.0)), smallest)
    (alpha, sigma), (alpha_next, sigma_next) = (
        tuple(map(float, process.schedule.level(step))) for step in process.schedule.timesteps(10)[:2]
    )
    beta = 1 - (alpha / alpha_next) ** 2
    assert torch.allclose(drawn("ddpm", saying(1.0)) - mean, beta**0.5 * normal(2), atol=1e-5)
    assert torch.allclose(smallest - mean, sigma_next / sigma * beta**0.5 * normal(2), atol=1e-5)


def test_guidance_leaves_the_variance_as_it_is():
    def labelled(x, timestep, label):
        return torch.cat([x, x], 1) * label.view(-1, 1, 1, 1)

    x, label = normal(0), torch.tensor([1.0, 2.0, 3.0])
    found = guided(labelled, label, torch.zeros(3), 3)(x, torch.zeros(3))
    assert torch.allclose(found, torch.cat([3 * x, x], 1) * label.view(-1, 1, 1, 1))


@each_pair
def test_drawing_begins_with_the_schedule_s_noise_and_shows_every_step(schedule, prediction):
    process = diffusion(schedule, prediction)
    steps = process.schedule.timesteps(4)
    start = normal(0) * process.schedule.level(steps[0])[1].clamp(min=1)
    expected = list(ddim(process, network, start, steps, clip=1.0))
    seen = list(draw(process, network, normal(0), sampler="ddim", steps=4))
    assert len(seen) == 4
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(seen, expected, strict=True))
    assert seen[-1].abs().max() <= 1


def test_ddpm_is_not_drawn_without_its_noise():
    with pytest.raises(ValueError, match="sampler ddpm adds noise in every step; give draw_noise, or choose ddim"):
        next(draw(diffusion(), network, normal(0), sampler="ddpm"))
    with pytest.raises(ValueError, match="sampler 'euler' is unknown; choose one of ddpm, ddim, heun, dpm_solver"):
        next(draw(diffusion(), network, normal(0), sampler="euler"))


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        ("linear", {"start": 2.0}, "start 2.0 must lie between 0 and 1"),
        ("linear", {"start": -1e-4}, "start -0.0001 must lie between 0 and 1"),
        ("linear", {"end": 1}, "end 1 must lie between 0 and 1"),
        ("scaled_linear", {"end": -0.02}, "end -0.02 must lie between 0 and 1"),
        ("linear", {"steps": 0}, "steps 0 must be a whole number, 1 or more"),
        ("scaled_linear", {"steps": -5}, "steps -5 must be a whole number"),
        ("cosine", {"steps": 2.5}, "steps 2.5 must be a whole number"),
        ("sigmoid", {"steps": 0}, "steps 0 must be a whole number"),
        ("cosine", {"offset": -1.0}, "offset -1.0 must be 0 or more"),
        ("cosine", {"offset": math.nan}, "offset nan must be 0 or more"),
        ("sigmoid", {"temperature": 0.0}, "temperature 0.0 must lie between 0 and inf"),
        ("sigmoid", {"start": 3.0}, "start 3.0 must lie between -inf and 3"),
        ("edm", {"sigma_min": 0.0}, "sigma_min 0.0 must lie between 0 and 80"),
        ("edm", {"sigma_min": 90.0}, "sigma_min 90.0 must lie between 0 and 80"),
        ("edm", {"sigma_max": math.inf}, "sigma_max inf must lie between 0 and inf"),
        ("edm", {"rho": 0}, "rho 0 must lie between 0 and inf"),
        ("edm", {"log_std": -1.2}, "log_std -1.2 must lie"),
        ("edm", {"log_mean": math.nan}, "log_mean nan must lie"),
        ("flow", {"shift": 0}, "shift 0 must lie between 0 and inf"),
        ("flow", {"shift": -2.0}, "shift -2.0 must lie between 0 and inf"),
        ("sigmoid", {"temperature": 0.01}, "leave 1 of the variance at step 0, which must lie between 0 and 1"),
        ("linear", {"start": 0.5, "end": 0.9}, "of the variance at step .*; choose some nearer to the usual ones"),
    ],
    ids=str,
)
def test_options_of_which_no_schedule_can_be_made_are_refused(schedule, options, message):
    with pytest.raises(ValueError, match=message):
        DiffusionConfig(schedule=schedule, prediction="edm" if schedule == "edm" else "v", schedule_options=options)


def test_a_prediction_that_says_nothing_of_the_image_where_a_schedule_begins_is_refused():
    with pytest.raises(ValueError, match=r"flow does not go with prediction noise: .* choose velocity, v or x0"):
        DiffusionConfig(schedule="flow")


@pytest.mark.parametrize("prediction", ["noise", "v", "x0", "velocity"])
@pytest.mark.parametrize("schedule", ["linear", "scaled_linear", "cosine", "sigmoid", "flow"])
def test_what_goes_together_is_drawn_from(schedule, prediction):
    if (schedule, prediction) != ("flow", "noise"):
        *_, image = draw(DiffusionConfig(schedule=schedule, prediction=prediction).made(), network, normal(0), steps=3)
        assert image.isfinite().all()


@pytest.mark.parametrize("clip", [0.0, -1.0, math.inf, math.nan])
def test_images_without_room_are_refused(clip):
    with pytest.raises(ValueError, match=f"clip {clip} is not positive; give the largest number of an image, or null"):
        DiffusionConfig(clip=clip)
