"""DCGAN, as figure 1 and section 4 of its paper have it, and what later papers added to it."""

import copy
import dataclasses

import pytest
import test_architectures as general
import torch
from laws import build, perturbed
from laws import test_image_generation as laws
from torch import nn

import zoo
from zoo.architectures.gan import ARCHITECTURE, GANConfig, Spectral
from zoo.training.ema import MovingAverage

SMALL = dataclasses.asdict(ARCHITECTURE.tiny)
FORMS = {
    "told classes": GANConfig(**SMALL | {"num_classes": 3}),
    "spectral norm": GANConfig(**SMALL | {"num_classes": 3, "spectral_norm": True, "discriminator_norm": "none"}),
    "layer norm": GANConfig(**SMALL | {"discriminator_norm": "layer", "depth": 1}),
}
"""All that the config can add, in three models."""
each_form = pytest.mark.parametrize(
    "form", [dataclasses.replace(ARCHITECTURE, tiny=config) for config in FORMS.values()], ids=list(FORMS)
)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_each_network_has_the_published_number_of_parameters():
    model = zoo.create("dcgan_64", device="meta")
    assert (count(model.generator), count(model.discriminator)) == (3_576_704, 2_765_568)


def test_twice_the_width_is_figure_1():
    with torch.device("meta"):
        model = ARCHITECTURE.model(GANConfig(generator_width=128))
        shapes = [tuple((x := model.generator.stem(torch.zeros(1, 100, 1, 1))).shape[1:])]
        shapes += [tuple((x := block(x)).shape[1:]) for block in (*model.generator.blocks, model.generator.head)]
    assert shapes == [(1024, 4, 4), (512, 8, 8), (256, 16, 16), (128, 32, 32), (3, 64, 64)]


@pytest.mark.parametrize("depth", [0, 2])
@pytest.mark.parametrize("size", [8, 16, 32])
def test_every_doubling_of_four_is_an_image_size(size, depth):
    model = build(ARCHITECTURE, GANConfig(image_size=size, in_channels=1, generator_width=2, depth=depth))
    image = model(**model.example_inputs(3))
    assert image.shape == (3, 1, size, size)
    assert model.discriminator(image).shape == (3,)


@pytest.mark.parametrize(
    ("field", "value"),
    [("image_size", 28), ("image_size", 4), ("image_size", 0), ("latent_dim", 0), ("depth", -1), ("num_classes", -1),
     ("discriminator_norm", "group")],
)  # fmt: skip
def test_impossible_shapes_are_refused(field, value):
    with pytest.raises(ValueError, match=f"{field} {value!r}"):
        GANConfig(**{field: value})


@each_form
def test_every_form_is_held_to_what_all_architectures_are(form):
    general.test_forward_takes_what_example_inputs_gives(form)
    general.test_a_fresh_model_has_finite_outputs_and_gradients(form)
    general.test_every_parameter_matters(form)
    general.test_rows_do_not_see_each_other_in_eval(form)
    general.test_a_state_dict_carries_the_whole_model(form)
    general.test_the_seed_decides_the_weights(form)
    general.test_init_weights_sets_everything(form)
    laws.test_the_score_teaches_the_generator(form)
    laws.test_the_two_networks_share_nothing(form)
    for training in (True, False):
        general.test_forward_changes_nothing(form, training)


@each_form
@pytest.mark.parametrize("autocast", [False, True], ids=["cast", "autocast"])
def test_every_form_is_close_in_bf16(form, autocast):
    general.test_bf16_is_finite_and_close(form, autocast)


@each_form
@pytest.mark.parametrize("mode", ["compile", "export"])
def test_every_form_has_a_whole_graph(form, mode):
    general.test_the_graph_is_whole_and_equal(form, mode)


@each_form
def test_every_form_is_saved_and_loaded_to_the_bit(form, tmp_path):
    model = perturbed(form)
    inputs = model.example_inputs(3)
    again = zoo.load(zoo.save(model, tmp_path / "gan")).eval()
    assert again.config == form.tiny
    label = inputs.get("label")
    image = model(**inputs)
    assert torch.equal(image, again(**inputs))
    assert torch.equal(model.discriminator(image, label), again.discriminator(image, label))


def test_what_the_config_does_not_ask_for_is_not_there():
    """So that weights of before there were such fields are still whole."""
    names = build(ARCHITECTURE).state_dict().keys()
    assert not [name for name in names if "scale" in name or "classes" in name or name.endswith(".u")]
    assert not [name for name in names if name.endswith("conv.bias")]


def told(**config):
    """A conditional GAN of four classes, in which nothing is zero, and what to ask of it."""
    model = perturbed(ARCHITECTURE, GANConfig(**SMALL | {"num_classes": 4} | config))
    return model, torch.randn(4, model.config.latent_dim), torch.tensor([2, 0, 3, 1])


def test_the_same_noise_with_another_class_is_another_image():
    model, z, label = told()
    image = model(z[:1].expand(4, -1), label)
    assert all((image[i] - image[j]).abs().max() > 1e-3 for i in range(4) for j in range(i))


def test_a_class_is_a_choice_of_every_scale_and_shift_in_the_generator():
    model, z, _ = told()
    plain = build(ARCHITECTURE).eval()
    for chosen in range(4):
        weights = {}
        for name, tensor in model.state_dict().items():
            for word, own in (("norm.scale.weight", "norm.weight"), ("norm.shift.weight", "norm.bias")):
                if name.endswith(word):
                    name, tensor = name.replace(word, own), tensor[chosen]
            weights[name.replace("norm.norm.", "norm.")] = tensor
        weights.pop("discriminator.classes.weight")
        plain.load_state_dict(weights)
        torch.testing.assert_close(model(z, torch.full((4,), chosen)), plain(z))


def test_the_discriminator_looks_for_the_class_by_projection():
    """Equation 5 of its paper: y^T V phi(x) + psi(phi(x))."""
    model, z, label = told()
    image, critic = model(z, label), model.discriminator
    phi = critic.blocks(critic.stem(image)).flatten(1)  # (batch, channels * 4 * 4)
    one_hot = torch.eye(4)[label]
    projected = ((one_hot @ critic.classes.weight.flatten(1)) * phi).sum(1)
    torch.testing.assert_close(critic(image, label), projected + phi @ critic.head.weight.flatten())


REFUSED = {
    "missing": (None, "give label"),
    "too few": (torch.tensor([1]), r"must be a tensor \(4,\)"),
    "a number": (1, "must be a tensor"),
    "floats": (torch.zeros(4), "label must be int64"),
    "too large": (torch.tensor([0, 1, 2, 4]), r"not all in \[0, 4\)"),
    "negative": (torch.tensor([0, 1, 2, -1]), r"not all in \[0, 4\)"),
}


@pytest.mark.parametrize(("label", "said"), REFUSED.values(), ids=list(REFUSED))
def test_a_label_that_is_none_of_the_classes_is_refused(label, said):
    model, z, good = told()
    image = model(z, good)
    for network, given in ((model, z), (model.generator, z), (model.discriminator, image)):
        with pytest.raises(ValueError, match=said):
            network(given, label)


def layers(model):
    """The discriminator's normalised layers."""
    return [module for module in model.discriminator.modules() if isinstance(module, Spectral)]


def effective(layer):
    """The weights that a layer computes with, (outputs, inputs), seen through what it does to each of its inputs."""
    conv = layer.conv
    pixels = torch.eye(conv.weight[0].numel()).unflatten(1, conv.weight.shape[1:])
    plain = copy.deepcopy(layer).eval()
    plain.conv.stride, plain.conv.padding, plain.conv.bias = (1, 1), (0, 0), None
    with torch.no_grad():
        return plain(pixels).flatten(1).T


@pytest.mark.parametrize("averaged", [False, True], ids=["itself", "its moving average"])
def test_the_largest_singular_value_of_every_layer_is_one(averaged):
    model = build(ARCHITECTURE, FORMS["spectral norm"]).train()
    optimizer, average = torch.optim.SGD(model.parameters(), lr=0.1), MovingAverage(model, 0.5)
    for step in range(60):
        inputs = model.example_inputs(8)
        model.discriminator(model(**inputs), inputs["label"]).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(model, step)
        optimizer.param_groups[0]["lr"] *= 0.8
    found = layers(average.model if averaged else model)
    assert len(found) == 4
    for layer in found:
        assert torch.linalg.svdvals(layer.conv.weight.detach().flatten(1))[0].item() != pytest.approx(1, abs=0.1)
        assert torch.linalg.svdvals(effective(layer))[0].item() == pytest.approx(1, abs=0.01)


def test_the_singular_vector_of_an_average_need_not_have_length_one():
    layer = layers(build(ARCHITECTURE, FORMS["spectral norm"]))[0].eval()
    image = torch.randn(2, 3, 16, 16)
    before = layer(image)
    layer.u *= 0.5
    torch.testing.assert_close(layer(image), before)


def test_the_singular_value_is_found_before_training():
    for layer in layers(build(ARCHITECTURE, FORMS["spectral norm"])):
        assert torch.linalg.svdvals(effective(layer))[0].item() == pytest.approx(1, abs=0.1)


def test_evaluation_does_not_follow_the_singular_vector():
    model = perturbed(ARCHITECTURE, FORMS["spectral norm"])
    inputs = model.example_inputs(4)
    inner = [layer for layer in layers(model) if len(layer.u) > 1]
    image, before = model(**inputs), [layer.u.clone() for layer in inner]
    first = model.discriminator(image, inputs["label"])
    assert torch.equal(first, model.discriminator(image, inputs["label"]))
    assert all(torch.equal(*pair) for pair in zip(before, (layer.u for layer in inner), strict=True))
    model.discriminator.train()(image, inputs["label"])
    assert not any(torch.equal(*pair) for pair in zip(before, (layer.u for layer in inner), strict=True))


def test_the_gradient_of_a_normalised_layer_is_equation_9():
    """dV/dW of V . (W x / sigma), where sigma is u^T W v with its singular vectors fixed."""
    layer = Spectral(nn.Conv2d(3, 5, 1, bias=False)).double()
    torch.manual_seed(0)
    layer.reset()
    x, upstream = torch.randn(7, 3, 1, 1).double(), torch.randn(7, 5).double()
    weight = layer.conv.weight.detach().flatten(1)
    for _ in range(200):
        layer(x)
    (layer(x).flatten(1) * upstream).sum().backward()
    left, values, right = torch.linalg.svd(weight)
    outer = left[:, 0].outer(right[0])
    plain = upstream.T @ x.flatten(1) / values[0]  # the gradient with respect to W / sigma, divided by sigma
    expected = plain - (plain * weight).sum() / values[0] * outer
    torch.testing.assert_close(layer.conv.weight.grad.flatten(1), expected, rtol=1e-5, atol=1e-6)


def test_a_bias_stands_where_no_norm_does():
    biases = {
        norm: [n for n in build(ARCHITECTURE, GANConfig(**SMALL | {"discriminator_norm": norm})).state_dict() if
               n.startswith("discriminator.blocks") and n.endswith("conv.bias")]
        for norm in ("batch", "layer", "none")
    }  # fmt: skip
    assert biases == {"batch": [], "layer": [], "none": ["discriminator.blocks.0.conv.bias"]}


@pytest.mark.parametrize("norm", ["layer", "none"])
def test_without_batch_norm_the_critic_s_images_do_not_see_each_other_in_training(norm):
    model = build(ARCHITECTURE, GANConfig(**SMALL | {"discriminator_norm": norm, "depth": 1})).train()
    image = model(**model.example_inputs(4)).detach().requires_grad_()
    (slope,) = torch.autograd.grad(model.discriminator(image)[0], image)
    assert slope[0].any()
    assert not slope[1:].any()


def test_an_unconditional_gan_takes_no_label():
    model = build(ARCHITECTURE)
    with pytest.raises(ValueError, match="takes no label"):
        model(**model.example_inputs(2), label=torch.zeros(2, dtype=torch.long))


def test_weights_start_as_in_section_4():
    model = build(ARCHITECTURE, GANConfig(image_size=32))
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.weight.mean().abs() < 0.002
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
        if isinstance(module, nn.BatchNorm2d):
            assert module.weight.mean().item() == pytest.approx(1, abs=0.02)
            assert not module.bias.any()
