"""Laws of models that fill in hidden words: every position may read all others, and none reads padding."""

import pytest
import torch

from laws import NO_TEXTS, architectures, differ, each, perturbed

each_model = each(architectures("fill-mask"))


def reading(architecture, batch=3):
    """A model, and full rows of tokens for it."""
    model = perturbed(architecture)
    return model, model.example_inputs(batch)["tokens"]


def padded(tokens):
    """A mask that hides the end of the rows, at a different place in each; the first row is full."""
    kept = tokens.shape[1] - 3 * torch.arange(len(tokens))
    return torch.arange(tokens.shape[1]) < kept[:, None]


def changed(model, tokens, where):
    """The texts with other words where the mask says so."""
    return torch.where(where, (tokens + 1) % model.config.vocab_size, tokens)


def gradients(model, tokens, mask):
    """Of a loss that counts every attended position's logits, each with weights of its own."""
    model.zero_grad()
    logits = model(tokens, mask=mask)
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(3))
    (logits * weights)[mask].sum().backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@each_model
def test_there_is_a_score_for_every_word_at_every_position(architecture):
    model, tokens = reading(architecture)
    assert model(tokens).shape == (*tokens.shape, model.config.vocab_size)


@each_model
def test_there_is_a_hidden_state_at_every_position(architecture):
    model, tokens = reading(architecture)
    assert model.encode(tokens, padded(tokens)).shape == (*tokens.shape, model.config.dim)


@each_model
def test_the_example_has_padding_in_it(architecture):
    mask = perturbed(architecture).example_inputs(2)["mask"]
    assert mask.dtype == torch.bool
    assert mask.any(1).all()
    assert not mask.all()


@each_model
def test_what_stands_in_the_padding_changes_nothing(architecture):
    model, tokens = reading(architecture)
    mask = padded(tokens)
    before, after = (model(text, mask=mask) for text in (tokens, changed(model, tokens, ~mask)))
    torch.testing.assert_close(after[mask], before[mask])
    before, after = (model.encode(text, mask) for text in (tokens, changed(model, tokens, ~mask)))
    torch.testing.assert_close(after[mask], before[mask])


@each_model
def test_gradients_do_not_see_the_padding(architecture):
    model, tokens = reading(architecture)
    mask = padded(tokens)
    before, after = (gradients(model, text, mask) for text in (tokens, changed(model, tokens, ~mask)))
    for name, gradient in before.items():
        torch.testing.assert_close(after[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


@each_model
def test_a_padded_text_is_read_as_it_would_be_alone(architecture):
    model, tokens = reading(architecture)
    mask = padded(tokens)
    together = model(tokens, mask=mask)
    for row, length in enumerate(mask.sum(1)):
        torch.testing.assert_close(together[row, :length], model(tokens[row : row + 1, :length])[0])


@each_model
def test_no_mask_means_that_all_are_tokens(architecture):
    model, tokens = reading(architecture)
    torch.testing.assert_close(model(tokens, mask=torch.ones_like(tokens, dtype=torch.bool)), model(tokens))


@each_model
def test_order_matters(architecture):
    model, tokens = reading(architecture)
    tokens[:, :2] = torch.tensor([1, 2])
    swapped = tokens.clone()
    swapped[:, [0, 1]] = tokens[:, [1, 0]]
    assert differ(model(swapped)[:, -1], model(tokens)[:, -1])


@each_model
@torch.no_grad()
def test_every_position_sees_both_sides(architecture):
    model, tokens = reading(architecture, 1)
    logits = model(tokens)
    for position in range(tokens.shape[1]):
        there = torch.arange(tokens.shape[1]) == position
        moved = model(changed(model, tokens, there))
        deaf = [other for other in range(tokens.shape[1]) if not differ(moved[:, other], logits[:, other])]
        assert not deaf, f"positions {deaf} do not see the word at {position}"


@each_model
def test_every_position_up_to_the_last_can_be_read_and_one_more_is_refused(architecture):
    model, tokens = reading(architecture, 1)
    longest = model.config.max_seq_len
    text = tokens[:, :1].expand(1, longest + 1)
    states = model.encode(text[:, :longest])[0]
    assert all(differ(states[position], states[position - 1]) for position in range(1, longest))
    for use in (model, model.encode):
        with pytest.raises(ValueError, match=rf"{longest + 1} tokens.* max_seq_len {longest}"):
            use(text)


@each_model
@pytest.mark.parametrize("tokens", NO_TEXTS.values(), ids=NO_TEXTS.keys())
def test_what_is_no_batch_of_texts_is_refused(architecture, tokens):
    model = perturbed(architecture)
    for read in (model, model.encode):
        with pytest.raises(ValueError, match=r"tokens must be (an int64 tensor|\(batch, seq\) .*), got"):
            read(tokens)
