"""All that CLIP's config can make is held to what every architecture is; sizes, ends of texts, and what is refused."""

import dataclasses
import math
import re

import pytest
import test_architectures as general
import test_recompute
import torch
from laws import build, perturbed
from laws import test_zero_shot_image_classification as laws
from safetensors.torch import save_file
from toys import trainer

import zoo
from zoo.architectures.clip import ARCHITECTURE, CLIPConfig
from zoo.architectures.clip.transformer import end_of
from zoo.registry import UnknownName, resolve
from zoo.training.data import Spec, Splits
from zoo.training.objectives import Loss, NoOptions, Objective
from zoo.weights.fit import MismatchError

SMALL = dataclasses.asdict(ARCHITECTURE.tiny)
SIDES = {"vision_dim": 16, "vision_depth": 2, "vision_num_heads": 2, "vision_mlp_dim": 24}
TEXTS = {"text_dim": 16, "text_depth": 2, "text_num_heads": 2, "text_mlp_dim": 24}
RESNET = {"vision": "resnet", "image_size": 64, "vision_depths": (1, 2, 1, 1), "vision_width": 8}
FORMS = {
    "resnet": CLIPConfig(**SMALL | RESNET),
    "two texts": CLIPConfig(**SMALL | {"vision": "text", "end_token": 63, "activation": "gelu"}),
    "one tower": CLIPConfig(**SMALL | SIDES | TEXTS | {"vision": "text", "shared_towers": True}),
    "bias": CLIPConfig(**SMALL | {"logit_bias": -10.0, "end_token": 40, "dropout": 0.1, "drop_path": 0.1}),
}
"""All that the config can add, in four models."""
each_form = pytest.mark.parametrize(
    "form", [dataclasses.replace(ARCHITECTURE, tiny=config) for config in FORMS.values()], ids=list(FORMS)
)


@each_form
def test_every_form_is_held_to_what_all_architectures_are(form):
    general.test_forward_takes_what_example_inputs_gives(form)
    general.test_a_fresh_model_has_finite_outputs_and_gradients(form)
    general.test_every_parameter_matters(form)
    general.test_a_state_dict_carries_the_whole_model(form)
    general.test_the_seed_decides_the_weights(form)
    general.test_init_weights_sets_everything(form)
    for training in (True, False):
        general.test_forward_changes_nothing(form, training)


@each_form
def test_every_form_obeys_the_laws_of_its_task(form):
    for name, law in vars(laws).items():
        if name.startswith("test_") and "what_is_no_text" not in name:
            law(form)


@each_form
@pytest.mark.parametrize("autocast", [False, True], ids=["cast", "autocast"])
def test_every_form_is_close_in_bf16(form, autocast):
    general.test_bf16_is_finite_and_close(form, autocast)


@each_form
@pytest.mark.parametrize("mode", ["compile", "export"])
def test_every_form_has_a_whole_graph(form, mode):
    general.test_the_graph_is_whole_and_equal(form, mode)


@each_form
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
def test_every_form_recomputes_its_blocks(form):
    test_recompute.test_gradients_and_statistics_are_the_same_and_less_is_kept(form)


@each_form
def test_every_form_is_saved_and_loaded_to_the_bit(form, tmp_path):
    model = perturbed(form)
    again = zoo.load(zoo.save(model, tmp_path / "clip")).eval()
    assert again.config == form.tiny
    inputs = model.example_inputs(3)
    assert all(torch.equal(*pair) for pair in zip(model(**inputs), again(**inputs), strict=True))


def test_one_tower_for_both_texts_gives_a_text_the_same_place_whichever_it_is():
    model = build(ARCHITECTURE, FORMS["one tower"]).eval()
    tokens = model.example_inputs(3)["tokens"]
    assert torch.equal(model.encode_image(tokens), model.encode_text(tokens))
    assert not [name for name in model.state_dict() if name.startswith("text.")]


def test_what_the_config_does_not_ask_for_is_not_there():
    names = build(ARCHITECTURE).state_dict().keys()
    assert not [name for name in names if "logit_bias" in name or "stages" in name]


def test_a_text_is_read_at_its_first_end_or_where_it_was_cut():
    tokens = torch.tensor([[5, 9, 7, 7], [7, 7, 1, 9], [1, 2, 3, 4], [1, 2, 3, 7]])
    assert end_of(tokens, 7).tolist() == [2, 0, 3, 3]
    assert end_of(tokens, None).tolist() == [1, 3, 3, 3]


@pytest.mark.parametrize("form", ["vit", "resnet"])
def test_weights_are_adapted_to_images_of_another_size_and_number_of_channels(form, tmp_path):
    config = ARCHITECTURE.tiny if form == "vit" else FORMS["resnet"]
    model = perturbed(ARCHITECTURE, config)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    size = config.image_size * 2
    options = {**dataclasses.asdict(config), "image_size": size, "in_channels": 1}
    larger = zoo.create("clip", weights=tmp_path / "weights.safetensors", **options).eval()
    notes = "; ".join(larger.load_report.adapted)
    assert "positions interpolated from" in notes
    assert "adapted from 3 to 1 channels" in notes
    grey = torch.randn(2, 1, size, size)
    torch.testing.assert_close(larger.encode_image(grey), model.encode_image(grey.expand(-1, 3, -1, -1)))


def test_foreign_weights_are_adapted_to_images_of_another_size(tmp_path):
    model = perturbed(ARCHITECTURE)
    path = zoo.export_weights(model, tmp_path / "weights.safetensors", format="open_clip")
    options = {**SMALL, "image_size": 32}
    larger = zoo.create("clip", weights=path, **options).eval()
    assert larger.vision.embed.positions.shape == (1, 65, 16)
    del options["image_size"]
    with pytest.raises(MismatchError, match="; give image_size=16: the checkpoint's own keeps this tensor"):
        zoo.create("clip", weights=path, **options)


def test_an_oblong_image_is_read():
    model = perturbed(ARCHITECTURE)
    image = torch.randn(2, 3, 8, 20)
    assert model.encode_image(image).shape == (2, 8)
    resnet = perturbed(ARCHITECTURE, FORMS["resnet"])
    assert resnet.encode_image(torch.randn(2, 3, 33, 97)).shape == (2, 8)


def test_features_are_maps_of_the_tower_for_images():
    vit, resnet = perturbed(ARCHITECTURE), perturbed(ARCHITECTURE, FORMS["resnet"])
    image = torch.randn(2, 3, 64, 96)
    assert [tuple(part.shape) for part in zoo.features(vit, image, (1, 2))] == [(2, 16, 16, 24)] * 2
    maps = zoo.features(resnet, image)
    assert [tuple(part.shape) for part in maps] == [(2, 8 * 2 ** (2 + k), 16 >> k, 24 >> k) for k in range(4)]
    whole = torch.nn.functional.normalize(resnet.vision.head(maps[-1]), dim=-1)
    torch.testing.assert_close(whole, resnet.encode_image(image))
    with pytest.raises(ValueError, match="TextTransformer is no image backbone"):
        zoo.features(build(ARCHITECTURE, FORMS["two texts"]), image)


def wrong_images():
    return {
        "rank": (torch.zeros(3, 16, 16), ValueError, r"got shape \(3, 16, 16\); image\[None\]"),
        "channels": (torch.zeros(2, 1, 16, 16), ValueError, "got 1 channels"),
        "bytes": (torch.zeros(2, 3, 16, 16, dtype=torch.uint8), ValueError, "floating-point and normalised"),
        "tokens": (torch.zeros(2, 10, dtype=torch.int64), ValueError, r"an image batch is .*, got shape \(2, 10\)"),
        "size": (torch.zeros(2, 3, 16, 18), ValueError, "16 x 18 pixels is not made of 4 x 4 patches; resize it"),
        "list": ([[1.0]], TypeError, "got list"),
    }


@pytest.mark.parametrize("case", wrong_images())
def test_what_is_no_image_is_refused(case):
    image, error, message = wrong_images()[case]
    with pytest.raises(error, match=message):
        build(ARCHITECTURE).encode_image(image)


def test_an_image_is_no_text_where_two_texts_are_read_and_a_small_one_is_none_for_a_resnet():
    with pytest.raises(ValueError, match=r"tokens must be an int64 tensor, got torch\.float32"):
        build(ARCHITECTURE, FORMS["two texts"]).encode_image(torch.zeros(2, 3, 16, 16))
    with pytest.raises(ValueError, match="11 tokens are more than max_seq_len 10"):
        build(ARCHITECTURE, FORMS["two texts"]).encode_image(torch.zeros(2, 11, dtype=torch.int64))
    with pytest.raises(ValueError, match="31 x 64 pixels is too small: this network takes 32"):
        build(ARCHITECTURE, FORMS["resnet"]).encode_image(torch.zeros(2, 3, 31, 64))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"vision_dim": 0}, "vision_dim 0 is below 1"),
        ({"vision_num_heads": 5}, "a width of 16 is not divisible by vision_num_heads 5"),
        ({"text_num_heads": 5}, "a width of 12 is not divisible by text_num_heads 5"),
        ({"image_size": 18}, "image_size 18 is not divisible by patch_size 4"),
        ({**RESNET, "image_size": 48}, "image_size 48 is not a multiple of 32"),
        ({**RESNET, "vision_depths": (1, 1)}, r"vision_depths \(1, 1\) are not four"),
        ({"end_token": 64}, "end_token 64 is not among the 64 tokens"),
        ({"temperature": 0.0}, r"temperature 0\.0 is not positive"),
        ({"dropout": 1.0}, r"dropout 1\.0 is not in \[0, 1\)"),
        ({"shared_towers": True}, "shared_towers needs vision='text', got 'vit'"),
        ({"vision": "text", "shared_towers": True}, "vision_dim 16 is not text_dim 12"),
        ({"vision": "bert"}, "vision"),
    ],
    ids=str,
)
def test_impossible_shapes_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        zoo.create("clip", **{**SMALL, **fields})


class Louder(Objective):
    """Wants the scale to grow."""

    name = "louder"
    reads = ("image", "tokens")
    headline = "loss"

    def loss(self, phase, nets, batch, ctx):
        return Loss({"loss": (-nets["model"](**batch).logits_per_image.diagonal().sum(), len(batch["image"]), 1.0)})

    def evaluate(self, nets, batch, ctx):
        return {"loss": (torch.zeros(()), 1)}


@pytest.mark.parametrize("value", [2.0, 4.6])
def test_training_keeps_the_scale_at_a_hundred_or_below(value):
    model = perturbed(ARCHITECTURE).train()
    with torch.no_grad():
        model.logit_scale.fill_(value)
    example = model.example_inputs(16)
    data = Splits(spec=Spec(keys=("image", "tokens")), train=Pairs(example), val=None, test=Pairs(example))
    objective = Louder(NoOptions(), data.spec)
    scale = trainer(model, data, objective, optimizer={"lr": 0.1}).fit().model.logit_scale.item()
    assert value < scale <= math.log(100) + 1e-6
    assert (scale > 4.6) == (value == 4.6)


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Images and texts as a split."""

    tensors: dict[str, torch.Tensor]

    def __len__(self):
        return len(self.tensors["image"])

    def fetch(self, indices, rngs):
        return {name: tensor[list(indices)] for name, tensor in self.tensors.items()}


@pytest.mark.parametrize("name", ["ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px", "ViT-L-14", "ViT-L-14-336"])
def test_a_name_that_a_plain_vit_could_have_stands_for_no_clip_but_leads_to_it(name):
    nearest = "clip_" + re.sub(r"\W", "_", name.removesuffix("@336px").lower())
    with pytest.raises(UnknownName, match=f"did you mean .*{nearest}"):
        zoo.config(name)


def test_no_spelling_of_an_alias_stands_for_another_network():
    for alias, target in ARCHITECTURE.aliases.items():
        for spelling in (alias, re.sub(r"[\W]", "-", alias), re.sub(r"[\W]", "_", alias.lower())):
            try:
                found = resolve(spelling)
            except UnknownName:
                continue
            assert (found.architecture.name, found.preset) == ("clip", target.partition(".")[0]), spelling
