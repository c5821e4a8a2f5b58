"""The cards of published weights: they fit, they are what the libraries say, and their inputs are prepared alike."""

import warnings

import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image

import zoo
import zoo.preprocess
from zoo.config import read_yaml
from zoo.convert import published_clip as contrastive
from zoo.convert import published_diffusion as generative
from zoo.convert.published import HIDDEN_NORMALISATION, published
from zoo.convert.published_diffusion import published_diffusion
from zoo.convert.published_text import PICKLED, REPOSITORIES, published_text
from zoo.diffusion import DiffusionConfig
from zoo.registry import ARCHITECTURES, resolve
from zoo.weights.cards import CARDS, cards, labels

pytestmark = pytest.mark.peers

GENERATIVE = ("unet", "autoencoder_kl", "mae")
TEXT = ("gpt2", "bert", "llama", "t5", "mamba", "mamba2")
EVERY = [card for record in ARCHITECTURES.records().values() for card in cards(record)]
PUBLISHED = [card for card in EVERY if "bundled" not in card.source]


def different():
    """One card of torchvision and timm for each way of preparing images."""
    found = {}
    for card in (card for card in PUBLISHED if in_timm_or_torchvision(card)):
        library = "torchvision" if "torchvision" in card.source else "timm"
        found.setdefault((library, str(dict(card.preprocessing)), card.preset in HIDDEN_NORMALISATION), card)
    return [pytest.param(card, id=f"{card.preset}.{card.tag}") for card in found.values()]


def in_timm_or_torchvision(card):
    return str(card.source.get("repo", "timm/")).startswith("timm/") and not card.preset.startswith("clip")


def peer_s_transform(card):
    if "torchvision" in card.source:
        from torchvision.models import get_weight

        return get_weight(card.source["torchvision"]).transforms()
    import timm
    from timm.data import create_transform, resolve_data_config

    cfg = timm.get_pretrained_cfg(card.source["repo"].removeprefix("timm/"))
    return create_transform(**resolve_data_config(pretrained_cfg=cfg.to_dict()))


@pytest.mark.parametrize("card", different())
def test_images_are_prepared_as_by_those_who_trained(card):
    ours, theirs = zoo.transforms(f"{card.preset}.{card.tag}"), peer_s_transform(card)
    for name in ("china.jpg", "flower.jpg"):
        photo = load_sample_image(name)
        if card.preprocessing.get("frames"):
            video = torch.from_numpy(photo.copy()).movedim(-1, 0).repeat(4, 1, 1, 1)
            inputs = (video, video)
        else:
            inputs = (Image.fromarray(photo), Image.fromarray(photo))
        found, expected = ours(inputs[0]), theirs(inputs[1])
        if card.preset in HIDDEN_NORMALISATION and "torchvision" in card.source:  # what the network does itself
            mean, std = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
            expected = (expected * std + mean - 0.5) / 0.5
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", contrastive.WEIGHTS)
def test_images_are_prepared_for_clip_as_by_open_clip(name):
    from peer_libraries import open_clip

    facts = open_clip.get_pretrained_cfg(contrastive.WEIGHTS[name].model, contrastive.WEIGHTS[name].tag)
    wanted = {key: facts[key] for key in ("mean", "std", "interpolation", "resize_mode")}
    size = zoo.config(name).image_size
    theirs = open_clip.image_transform(size, is_train=False, **wanted)
    ours = zoo.transforms(name)
    for photo in ("china.jpg", "flower.jpg"):
        image = Image.fromarray(load_sample_image(photo))
        found = ours(image)
        assert found.shape == (3, size, size)
        torch.testing.assert_close(found, theirs(image), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["squeezenet", "inception_v3", "video_resnet", "clip", *GENERATIVE, *TEXT])
def test_a_file_of_cards_is_what_the_libraries_and_our_table_say_today(name):
    record = ARCHITECTURES.find(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = [*published(record), *published_text(record), *published_diffusion(record)]
    now = {(card.preset, card.tag): card for card in found if not isinstance(card, str)}
    written = {(card.preset, card.tag): card for card in cards(record) if "bundled" not in card.source}
    assert written == now


def test_pictures_of_a_diffusion_network_and_a_first_stage_lie_in_minus_one_to_one():
    for card in (card for card in PUBLISHED if card.preset.startswith(("ddpm", "sd_vae"))):
        white = zoo.transforms(f"{card.preset}.{card.tag}")(Image.new("RGB", (300, 300), "white"))
        size = getattr(zoo.config(card.preset), "image_size", 256)
        assert torch.equal(white, torch.ones(3, size, size))


def test_a_network_that_removes_noise_says_which_and_a_first_stage_by_what_it_is_scaled():
    names = [f"{card.preset}.{card.tag}" for card in PUBLISHED if card.preset.startswith(("ddpm", "sd_vae"))]
    known = {name: zoo.preprocess.preprocessing(name) for name in names}
    assert {name: record.latent_scale for name, record in known.items() if name.startswith("sd_vae")} == {
        "sd_vae.ft_mse": 0.18215, "sd_vae.ft_ema": 0.18215, "sd_vae.sdxl": 0.13025
    }  # fmt: skip
    for record in (record for name, record in known.items() if name.startswith("ddpm")):
        assert DiffusionConfig(**record.diffusion) == DiffusionConfig(schedule="linear", prediction="noise")
    assert resolve("sdxl_vae").tag == "sdxl"


def test_a_licence_that_the_authors_contradict_is_not_said_to_permit_commercial_use():
    (card,) = cards(ARCHITECTURES.find("mae"), "mae_vit_b_16")
    assert (card.license, card.commercial) == ("apache-2.0", None)


def test_every_repository_of_text_has_a_card_and_reads_by_a_tokenizer():
    names = {f"{card.preset}.{card.tag}": card for card in PUBLISHED if card.tokenizer}
    assert names.keys() == REPOSITORIES.keys() | contrastive.WEIGHTS.keys()
    for card in names.values():
        assert {"revision", "sha256"} <= card.source.keys() or card.source["pinned"] is False
        assert card.source.get("gated", False) == card.source["repo"].startswith("meta-llama/")


def test_a_repository_s_name_stands_for_the_preset_of_its_card():
    for name, where in REPOSITORIES.items():
        if ARCHITECTURES.owner(where.name) is not None:
            assert resolve(where.name).preset == name.partition(".")[0]


def test_no_repository_of_pickles_has_a_card():
    pickled = {**PICKLED, **generative.PICKLED, **generative.UNCERTAIN}
    assert not {card.source["repo"] for card in PUBLISHED if "repo" in card.source} & pickled.keys()
    assert not set(pickled.values()) - set(zoo.list_models())


def test_a_preset_has_one_default_at_most_and_every_published_one_has_it():
    defaults = [card.preset for card in EVERY if card.default]
    assert len(defaults) == len(set(defaults))
    assert {card.preset for card in PUBLISHED} <= set(defaults)


def test_every_tag_has_a_config_and_as_many_labels_as_classes():
    for card in PUBLISHED:
        config = zoo.config(f"{card.preset}.{card.tag}")
        assert len(labels(card)) in (0, getattr(config, "num_classes", None))


def test_licences_say_what_is_permitted():
    permitted = set(zoo.list_models("*", license="commercial-ok", tags=True))
    assert "resnet18.a1_in1k" in permitted
    assert not {"vit_b_16.mae", "vit_h_14.imagenet1k_swag_e2e_v1", "resnet18.fb_ssl_yfcc100m_ft_in1k"} & permitted
    assert "vit_b_16.mae" in zoo.list_models("vit_b*", license="cc-by-nc-4.0", tags=True)
    assert zoo.describe("alexnet").weights[0].metrics == {"accuracy": 0.56522, "top5_accuracy": 0.79066}


def test_default_tags_never_change():
    """A bare name's weights stay the same within a major version; only new presets may be added here."""
    frozen = {
        "alexnet": "imagenet1k_v1", "vgg16": "tv_in1k", "resnet18": "a1_in1k", "resnet50": "a1_in1k",
        "densenet121": "ra_in1k", "efficientnet_b0": "ra_in1k", "efficientnet_v2_s": "imagenet1k_v1",
        "vit_b_16": "augreg2_in21k_ft_in1k", "deit_s_16": "fb_in1k", "mae_b_16": "mae",
        "convnext_tiny": "in12k_ft_in1k", "inception_v3": "tv_in1k", "googlenet": "imagenet1k_v1",
        "r2plus1d_18": "kinetics400_v1", "gpt2": "openai", "bert_base": "google", "minilm_l6": "all_v2",
        "smollm2_135m": "base", "t5_small": "google", "t5_v1_1_small": "flan", "mamba_130m": "pile",
        "ddpm_cifar10_32": "google", "sd_vae": "ft_mse", "mae_vit_b_16": "facebook",
        "clip_vit_b_32": "openai", "clip_resnet50": "openai",
    }  # fmt: skip
    assert {card.preset: card.tag for card in EVERY if card.default and card.preset in frozen} == frozen


def test_cards_are_plain_data():
    for path in CARDS.glob("*.yaml"):
        assert all(isinstance(tags, dict) for tags in read_yaml(path).values())
