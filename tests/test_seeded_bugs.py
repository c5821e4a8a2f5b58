"""The tests are tested: each bug that is put into a model here must turn one of them red."""

import dataclasses

import pytest
import test_architectures as general
import test_resnet
import torch
import torch.nn.functional as F
from laws import test_classification as classifiers
from laws import test_image_generation as gans
from laws import test_text_generation as texts
from laws import test_zero_shot_image_classification as pairs
from torch import nn

from zoo.architectures import clip, gan, gpt2, mlp, perceptron, resnet
from zoo.architectures.clip import transformer
from zoo.nn import generate


def expect_red(test, *arguments):
    with pytest.raises((AssertionError, KeyError)):
        test(*arguments)


def test_a_dropped_causal_mask_is_noticed(monkeypatch):
    attention = F.scaled_dot_product_attention
    texts.test_later_tokens_do_not_move_earlier_logits(gpt2.ARCHITECTURE)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, *_, **__: attention(q, k, v))
    expect_red(texts.test_later_tokens_do_not_move_earlier_logits, gpt2.ARCHITECTURE)


def test_a_cache_that_forgets_is_noticed(monkeypatch):
    append = generate.KVCache.append

    def forget(cache, key, value):
        keys, values = append(cache, key, value)
        return keys[..., -1:, :], values[..., -1:, :]

    monkeypatch.setattr(generate.KVCache, "append", forget)
    expect_red(texts.test_generate_equals_scoring_the_whole_text_again_for_every_token, gpt2.ARCHITECTURE)
    expect_red(texts.test_reading_on_equals_reading_at_once, gpt2.ARCHITECTURE, 1)


def test_lost_positions_are_noticed(monkeypatch):
    read = gpt2.GPT2.forward

    def forward(model, tokens):
        model.position.weight.data.zero_()
        return read(model, tokens)

    monkeypatch.setattr(gpt2.GPT2, "forward", forward)
    expect_red(texts.test_order_matters, one_layer(gpt2.ARCHITECTURE))


def one_layer(architecture):
    """Two causal layers tell an order even without positions; one does not."""
    return dataclasses.replace(architecture, tiny=dataclasses.replace(architecture.tiny, depth=1))


def test_a_shortcut_that_takes_the_wrong_pixels_is_noticed(monkeypatch):
    def forward(shortcut, x):
        odd = x.flip(-1)[:, :, :: shortcut.stride, :: shortcut.stride].flip(-1)
        return F.pad(odd, (0, 0, 0, 0, 0, shortcut.missing))

    monkeypatch.setattr(resnet.PadShortcut, "forward", forward)
    expect_red(test_resnet.test_option_a_subsamples_and_pads_with_zero_channels)


def test_swapped_branches_are_noticed(monkeypatch):
    def forward(block, x):
        return F.relu(block.residual(x)) + block.shortcut(x)

    monkeypatch.setattr(resnet.Block, "forward", forward)
    expect_red(test_resnet.test_option_b_projects_where_shapes_change_and_nowhere_else)


def test_a_missing_shortcut_is_noticed(monkeypatch):
    monkeypatch.setattr(resnet.Block, "forward", lambda block, x: F.relu(block.residual(x)))
    expect_red(test_resnet.test_option_b_projects_where_shapes_change_and_nowhere_else)


def test_batch_statistics_in_eval_are_noticed(monkeypatch):
    batch_norm = F.batch_norm

    def forward(norm, x):
        return batch_norm(x, None, None, norm.weight, norm.bias, training=True)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", forward)
    expect_red(general.test_rows_do_not_see_each_other_in_eval, resnet.ARCHITECTURE)


def test_a_bias_that_is_never_added_is_noticed(monkeypatch):
    monkeypatch.setattr(perceptron.Perceptron, "forward", lambda model, features: features @ model.head.weight.mT)
    expect_red(general.test_a_fresh_model_has_finite_outputs_and_gradients, perceptron.ARCHITECTURE)
    expect_red(general.test_every_parameter_matters, perceptron.ARCHITECTURE)


def test_a_layer_without_effect_is_noticed(monkeypatch):
    forward = mlp.MLP.forward

    def detached(model, features):
        with torch.no_grad():
            hidden = model.blocks[0](features)
        return model.head(model.blocks[1](hidden)) + 0 * forward(model, features)

    monkeypatch.setattr(mlp.MLP, "forward", detached)
    expect_red(general.test_every_parameter_matters, mlp.ARCHITECTURE)


@pytest.mark.parametrize("forgotten", [nn.Conv2d, nn.BatchNorm2d, nn.Linear])
def test_a_forgotten_initialisation_is_noticed(monkeypatch, forgotten):
    def init_weights(model):
        for module in model.modules():
            if hasattr(module, "reset_parameters") and not isinstance(module, forgotten):
                module.reset_parameters()

    monkeypatch.setattr(resnet.ResNet, "init_weights", init_weights)
    expect_red(general.test_init_weights_sets_everything, resnet.ARCHITECTURE)


def test_a_forgotten_counter_is_noticed(monkeypatch):
    reset = nn.BatchNorm2d.reset_running_stats

    def forget(norm):
        before = norm.num_batches_tracked.clone()
        reset(norm)
        norm.num_batches_tracked.copy_(before)

    monkeypatch.setattr(nn.BatchNorm2d, "reset_running_stats", forget)
    expect_red(general.test_init_weights_sets_everything, resnet.ARCHITECTURE)


def test_a_forward_that_remembers_is_noticed(monkeypatch):
    forward = resnet.Block.forward

    def remember(block, x):
        block.last = x
        return forward(block, x)

    monkeypatch.setattr(resnet.Block, "forward", remember)
    expect_red(general.test_forward_changes_nothing, resnet.ARCHITECTURE, False)


def test_weights_outside_the_state_dict_are_noticed(monkeypatch):
    forward, scales = mlp.MLP.forward, {}

    def scaled(model, features):
        return forward(model, features) * scales.setdefault(model, 1 + len(scales))

    monkeypatch.setattr(mlp.MLP, "forward", scaled)
    expect_red(general.test_a_state_dict_carries_the_whole_model, mlp.ARCHITECTURE)


def test_a_seed_without_effect_is_noticed(monkeypatch):
    init_weights = mlp.MLP.init_weights

    def fixed(model):
        torch.manual_seed(5)
        init_weights(model)

    monkeypatch.setattr(mlp.MLP, "init_weights", fixed)
    expect_red(general.test_the_seed_decides_the_weights, mlp.ARCHITECTURE)


def test_a_branch_on_values_is_noticed(monkeypatch):
    forward = mlp.MLP.forward

    def branch(model, features):
        return forward(model, features if features.sum() > 0 else -features)

    monkeypatch.setattr(mlp.MLP, "forward", branch)
    with pytest.raises(torch._dynamo.exc.Unsupported):
        general.test_the_graph_is_whole_and_equal(mlp.ARCHITECTURE, "compile")


def test_a_wrong_count_and_a_missing_one_are_noticed():
    wrong = dataclasses.replace(perceptron.ARCHITECTURE, params={"perceptron": 7_840})
    expect_red(general.test_a_preset_has_the_published_number_of_parameters, wrong, "perceptron")
    expect_red(general.test_the_record_is_complete, dataclasses.replace(wrong, params={}))


def test_a_moved_default_is_noticed():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class MovedConfig(mlp.MLPConfig):
        dropout: float = 0.5

    moved = dataclasses.replace(mlp.ARCHITECTURE, config=MovedConfig, presets={}, params={})
    expect_red(general.test_the_config_is_the_one_that_was_saved_before, moved)


def test_a_head_that_stays_without_classes_is_noticed(monkeypatch):
    monkeypatch.setattr(resnet, "classifier", lambda width, num_classes: nn.Linear(width, num_classes or width))
    expect_red(classifiers.test_without_classes_the_model_gives_what_its_head_would_read, resnet.ARCHITECTURE)


def test_a_head_that_keeps_the_old_config_is_noticed(monkeypatch):
    def reset_classifier(model, num_classes):
        model.head = nn.Linear(model.num_features, num_classes)

    monkeypatch.setattr(resnet.ResNet, "reset_classifier", reset_classifier)
    expect_red(classifiers.test_reset_classifier_changes_the_head_alone, resnet.ARCHITECTURE)


def test_a_detached_generator_is_noticed(monkeypatch):
    forward = gan.Discriminator.forward
    monkeypatch.setattr(gan.Discriminator, "forward", lambda model, image: forward(model, image.detach()))
    expect_red(gans.test_the_score_teaches_the_generator, gan.ARCHITECTURE)


def test_a_text_that_sees_what_stands_behind_its_end_is_noticed(monkeypatch):
    attention = F.scaled_dot_product_attention
    pairs.test_what_stands_behind_the_end_of_a_text_changes_nothing(clip.ARCHITECTURE)
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda q, k, v, **_: attention(q, k, v))
    expect_red(pairs.test_what_stands_behind_the_end_of_a_text_changes_nothing, clip.ARCHITECTURE)


def test_a_text_that_is_read_in_the_wrong_place_is_noticed(monkeypatch):
    monkeypatch.setattr(transformer, "end_of", lambda tokens, _: torch.zeros_like(tokens[:, 0]))
    expect_red(pairs.test_every_word_before_the_end_changes_the_text, clip.ARCHITECTURE)
    monkeypatch.setattr(transformer, "end_of", lambda tokens, _: torch.full_like(tokens[:, 0], tokens.shape[1] - 1))
    expect_red(pairs.test_what_stands_behind_the_end_of_a_text_changes_nothing, clip.ARCHITECTURE)


def test_features_of_any_length_are_noticed(monkeypatch):
    monkeypatch.setattr(F, "normalize", lambda x, **_: x)
    expect_red(pairs.test_features_have_a_length_of_one, clip.ARCHITECTURE)


def test_swapped_logits_are_noticed(monkeypatch):
    read = clip.CLIP.forward

    def forward(model, image, tokens):
        per_image, per_text, *features = read(model, image, tokens)
        return clip.CLIPOutput(per_text, per_image, *features)

    monkeypatch.setattr(clip.CLIP, "forward", forward)
    expect_red(
        pairs.test_there_is_a_score_for_every_text_and_every_image_and_either_way_it_is_the_same, clip.ARCHITECTURE
    )
