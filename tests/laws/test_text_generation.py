"""Laws of causal language models."""

import pytest
import torch

from laws import architectures, differ, each, perturbed

each_model = each(architectures("text-generation"))


@each_model
def test_there_is_a_score_for_every_word_at_every_position(architecture):
    model = perturbed(architecture)
    tokens = model.example_inputs(2)["tokens"]
    assert model(tokens).shape == (*tokens.shape, model.config.vocab_size)


@each_model
def test_later_tokens_do_not_move_earlier_logits(architecture):
    model = perturbed(architecture)
    tokens = model.example_inputs(2)["tokens"]
    logits = model(tokens)
    for cut in range(1, tokens.shape[1]):
        changed = tokens.clone()
        changed[:, cut:] = (changed[:, cut:] + 1) % model.config.vocab_size
        torch.testing.assert_close(model(changed)[:, :cut], logits[:, :cut], rtol=1e-4, atol=1e-5)


@each_model
def test_earlier_tokens_move_later_logits(architecture):
    model = perturbed(architecture)
    tokens = model.example_inputs(2)["tokens"]
    changed = tokens.clone()
    changed[:, 0] = (changed[:, 0] + 1) % model.config.vocab_size
    assert differ(model(changed)[:, 1], model(tokens)[:, 1])
    assert differ(model(changed)[:, -1], model(tokens)[:, -1])


@each_model
def test_order_matters(architecture):
    model = perturbed(architecture)
    tokens = model.example_inputs(2)["tokens"]
    swapped = tokens.clone()
    swapped[:, [0, 1]] = tokens[:, [1, 0]]
    assert differ(model(swapped)[:, -1], model(tokens)[:, -1])


@each_model
@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3], ids=["one by one", "in chunks"])
def test_reading_on_equals_reading_at_once(architecture, chunk):
    model = perturbed(architecture)
    tokens = model.example_inputs(2)["tokens"]
    logits, state = model(tokens), model.new_state(tokens.shape[1])
    for start in range(0, tokens.shape[1], chunk):
        piece = tokens[:, start : start + chunk]
        last, state = model.step(piece, state)
        torch.testing.assert_close(last, logits[:, start + piece.shape[1] - 1], rtol=1e-4, atol=1e-5)


@each_model
@torch.no_grad()
def test_generate_equals_scoring_the_whole_text_again_for_every_token(architecture):
    model = perturbed(architecture)
    prompt = model.example_inputs(3)["tokens"][:, :4]
    text = prompt
    for _ in range(6):
        text = torch.cat([text, model(text)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(model.generate(prompt, 6), text)


@each_model
@torch.no_grad()
def test_a_prompt_is_continued_as_it_would_be_without_the_longer_ones_beside_it(architecture):
    model = perturbed(architecture)
    prompts, lengths = model.example_inputs(3)["tokens"][:, :6], torch.tensor([2, 6, 3])
    texts = model.generate(prompts, 4, lengths=lengths)
    for row, length in enumerate(lengths):
        alone = prompts[row : row + 1, :length]
        assert torch.equal(model.generate(alone, 10 - int(length))[0], texts[row])
