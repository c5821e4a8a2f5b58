"""Laws of causal language models."""

from dataclasses import replace

import pytest
import torch

from laws import NO_TEXTS, architectures, differ, each, perturbed

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


@each_model
@pytest.mark.parametrize("tokens", NO_TEXTS.values(), ids=NO_TEXTS.keys())
def test_what_is_no_batch_of_texts_is_refused(architecture, tokens):
    model = perturbed(architecture)
    for read in (model, lambda text: model.step(text, model.new_state(5))):
        with pytest.raises(ValueError, match=r"tokens must be (an int64 tensor|\(batch, seq\) .*), got"):
            read(tokens)


@each_model
@torch.no_grad()
@pytest.mark.parametrize("seq", [1, 3])
@pytest.mark.parametrize(("rows", "others"), [(2, 1), (1, 2), (4, 2)])
def test_the_state_of_another_batch_is_refused(architecture, seq, rows, others):
    model = perturbed(architecture)
    tokens = model.example_inputs(4)["tokens"]
    _, state = model.step(tokens[:rows, :3], model.new_state(8))
    with pytest.raises(ValueError, match=r"a state of .* does not fit"):
        model.step(tokens[:others, :seq], state)


@each_model
def test_the_state_of_a_model_of_another_depth_is_refused(architecture):
    model = perturbed(architecture)
    depth, tokens = model.config.depth, model.example_inputs(2)["tokens"][:, :3]
    for wrong in (0, depth - 1, depth + 1):
        state = (model.new_state(8) * 2)[:wrong]
        with pytest.raises(ValueError, match=f"a state of {wrong} blocks does not fit a model of {depth}; take it"):
            model.step(tokens, state)


@each_model
def test_a_head_of_its_own_is_a_module_that_is_called(architecture):
    model = perturbed(architecture, replace(architecture.tiny, tie_embeddings=False))
    tokens = model.example_inputs(2)["tokens"][:, :3]
    expected = 2 * model(tokens)
    model.head.register_forward_hook(lambda _module, _inputs, logits: 2 * logits)
    torch.testing.assert_close(model(tokens), expected)
    torch.testing.assert_close(model.step(tokens, model.new_state(3))[0], expected[:, -1])
