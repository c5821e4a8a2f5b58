"""Laws of models that say which text goes with which image: two towers, one space, and cosines in it."""

import pytest
import torch

from laws import NO_TEXTS, architectures, differ, each, perturbed

each_model = each(architectures("zero-shot-image-classification"))


def reading(architecture, images=3, texts=5):
    """A model, images, and texts of which each ends one position after the one before it."""
    model = perturbed(architecture)
    image = model.example_inputs(images)["image"]
    return model, image, ended(model.config, texts)


def ended(config, texts):
    """Texts with words of their own, the end, and nothing behind it."""
    tokens = torch.randint(1, end_of(config), (texts, config.max_seq_len))
    for row in range(texts):
        tokens[row, 3 + row] = end_of(config)
        tokens[row, 4 + row :] = 0
    return tokens


def end_of(config):
    """The token that ends a text; the tokens below it are words."""
    return config.vocab_size - 1 if config.end_token is None else config.end_token


def behind(config, tokens):
    """Where a text is over already."""
    ends = tokens == end_of(config)
    return (ends.cumsum(1) - ends.long()).bool()


def close(value, expected):
    torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)


@each_model
@torch.no_grad()
def test_features_have_a_length_of_one(architecture):
    model, image, tokens = reading(architecture)
    for features, count in ((model.encode_image(image), 3), (model.encode_text(tokens), 5)):
        assert features.shape == (count, model.config.dim)
        close(features.norm(dim=1), torch.ones(count))


@each_model
@torch.no_grad()
def test_there_is_a_score_for_every_text_and_every_image_and_either_way_it_is_the_same(architecture):
    model, image, tokens = reading(architecture)
    found = model(image, tokens)
    assert found.logits_per_image.shape == (3, 5)
    assert torch.equal(found.logits_per_text, found.logits_per_image.T)


@each_model
@torch.no_grad()
def test_scores_are_cosines_that_are_scaled(architecture):
    model, image, tokens = reading(architecture)
    found = model(image, tokens)
    close(found.image_features, model.encode_image(image))
    close(found.text_features, model.encode_text(tokens))
    bias = 0 if getattr(model, "logit_bias", None) is None else model.logit_bias
    close(found.logits_per_image, model.logit_scale.exp() * found.image_features @ found.text_features.T + bias)


@each_model
@torch.no_grad()
def test_a_fresh_model_divides_by_the_temperature_of_its_config(architecture):
    model = architecture.model(architecture.tiny)
    model.init_weights()
    close(model.logit_scale.exp(), torch.tensor([1 / model.config.temperature]))


@each_model
@torch.no_grad()
def test_features_do_not_depend_on_what_else_is_in_the_batch(architecture):
    model, image, tokens = reading(architecture)
    for encode, rows in ((model.encode_image, image), (model.encode_text, tokens)):
        close(torch.cat([encode(row[None]) for row in rows]), encode(rows))


@each_model
@torch.no_grad()
def test_pairs_in_another_order_have_their_scores_in_that_order(architecture):
    model, image, tokens = reading(architecture, images=5)
    order = torch.tensor([3, 0, 4, 1, 2])
    found, again = model(image, tokens).logits_per_image, model(image[order], tokens[order]).logits_per_image
    assert differ(again, found)
    close(again, found[order][:, order])


@each_model
@torch.no_grad()
def test_what_stands_behind_the_end_of_a_text_changes_nothing(architecture):
    model, _, tokens = reading(architecture)
    hidden = behind(model.config, tokens)
    assert hidden.any(1).all()
    other = torch.where(hidden, torch.randint_like(tokens, 1, end_of(model.config)), tokens)
    close(model.encode_text(other), model.encode_text(tokens))
    longest = int((~hidden).sum(1).max())
    close(model.encode_text(tokens[:, :longest]), model.encode_text(tokens))


@each_model
@torch.no_grad()
def test_every_word_before_the_end_changes_the_text(architecture):
    model, _, tokens = reading(architecture)
    before = model.encode_text(tokens)
    for position in range(3):  # all texts are longer
        other = tokens.clone()
        other[:, position] = tokens[:, position] % (end_of(model.config) - 1) + 1
        assert all(differ(*pair) for pair in zip(model.encode_text(other), before, strict=True)), position


@each_model
@torch.no_grad()
def test_the_order_of_words_matters(architecture):
    model, _, tokens = reading(architecture)
    tokens[:, 0], tokens[:, 1] = 1, 2
    other = tokens.clone()
    other[:, 0], other[:, 1] = 2, 1
    assert all(differ(*pair) for pair in zip(model.encode_text(other), model.encode_text(tokens), strict=True))


@each_model
def test_a_pair_teaches_both_towers(architecture):
    model, image, tokens = reading(architecture, texts=3)
    model(image, tokens).logits_per_image.diagonal().sum().backward()
    taught = {name.split(".")[0] for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert {name for name in model.towers if getattr(model, name) is not None} | {"logit_scale"} <= taught


@each_model
@torch.no_grad()
def test_the_scale_is_kept_at_a_hundred_or_below(architecture):
    model, _, _ = reading(architecture)
    for value in (3.0, 9.0):
        model.logit_scale.fill_(value)
        model.constrain()
        close(model.logit_scale.exp(), torch.tensor([value]).exp().clamp(max=100))


@each_model
@pytest.mark.parametrize("case", NO_TEXTS)
def test_what_is_no_text_is_refused(architecture, case):
    model, image, _ = reading(architecture)
    for call in (model.encode_text, lambda tokens: model(image, tokens)):
        with pytest.raises(ValueError, match="tokens must be"):
            call(NO_TEXTS[case])


@each_model
def test_a_text_with_more_tokens_than_positions_is_refused(architecture):
    model, _, tokens = reading(architecture)
    longest = model.config.max_seq_len
    with pytest.raises(ValueError, match=f"{longest + 1} tokens are more than max_seq_len {longest}; cut"):
        model.encode_text(torch.cat([tokens, tokens[:, :1]], dim=1))
