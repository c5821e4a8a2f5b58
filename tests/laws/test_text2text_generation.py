"""Laws of encoder-decoders that turn a text into another."""

import pytest
import torch

from laws import NO_TEXTS, architectures, differ, each, perturbed
from zoo.training.recompute import recomputing

each_model = each(architectures("text2text-generation"))


def example(architecture, batch=3):
    model = perturbed(architecture)
    inputs = model.example_inputs(batch)
    return model, inputs["source"], inputs["tokens"]


def others(model, tokens):
    """Another token at every place."""
    return (tokens + 1) % model.config.vocab_size


@each_model
def test_there_is_a_score_for_every_word_at_every_position(architecture):
    model, source, tokens = example(architecture)
    assert source.shape[1] != tokens.shape[1]
    assert model(source, tokens).shape == (*tokens.shape, model.config.vocab_size)
    assert model.encode(source).shape[:2] == source.shape


@each_model
def test_later_tokens_do_not_move_earlier_logits(architecture):
    model, source, tokens = example(architecture)
    logits = model(source, tokens)
    for cut in range(1, tokens.shape[1]):
        changed = tokens.clone()
        changed[:, cut:] = others(model, changed[:, cut:])
        torch.testing.assert_close(model(source, changed)[:, :cut], logits[:, :cut], rtol=1e-4, atol=1e-5)


@each_model
def test_earlier_tokens_move_later_logits(architecture):
    model, source, tokens = example(architecture)
    changed = tokens.clone()
    changed[:, 0] = others(model, changed[:, 0])
    moved = (model(source, changed) - model(source, tokens)).abs().amax((0, 2))
    assert (moved > 1e-5).all()


@each_model
def test_every_token_sees_the_whole_source(architecture):
    model, source, tokens = example(architecture)
    logits = model(source, tokens)
    for place in range(source.shape[1]):
        changed = source.clone()
        changed[:, place] = others(model, changed[:, place])
        moved = (model(changed, tokens) - logits).abs().amax((0, 2))
        assert (moved > 1e-5).all(), f"token {place} of the source is not seen everywhere"


@each_model
@pytest.mark.parametrize("part", ["source", "tokens"])
def test_order_matters(architecture, part):
    model, source, tokens = example(architecture)
    inputs = {"source": source, "tokens": tokens}
    first, second = (torch.tensor(pair).expand(len(source), 2) for pair in ([3, 4], [4, 3]))
    before, after = (torch.cat([pair, inputs[part][:, 2:]], dim=1) for pair in (first, second))
    assert differ(model(**inputs | {part: before})[:, -1], model(**inputs | {part: after})[:, -1])


def padded(model, source, lengths):
    """Sources cut to these lengths, and twice the same with other tokens in what is cut off."""
    mask = torch.arange(source.shape[1]) < torch.tensor(lengths)[:, None]
    return torch.where(mask, source, others(model, source)), mask


@each_model
@torch.no_grad()
def test_padding_of_the_source_changes_no_logits(architecture):
    model, source, tokens = example(architecture)
    lengths = [source.shape[1], 5, 1]
    filled, mask = padded(model, source, lengths)
    logits = model(filled, tokens, mask)
    torch.testing.assert_close(model(source, tokens, mask), logits, rtol=1e-4, atol=1e-5)
    for row, length in enumerate(lengths):
        alone = model(source[row : row + 1, :length], tokens[row : row + 1])
        torch.testing.assert_close(logits[row : row + 1], alone, rtol=1e-4, atol=1e-5)


@each_model
def test_padding_of_the_source_changes_no_gradients(architecture):
    model, source, tokens = example(architecture)
    filled, mask = padded(model, source, [5, 5, 5])

    def gradients(*inputs):
        model.zero_grad()
        model(*inputs).square().sum().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters()}

    expected = gradients(source[:, :5], tokens)
    for name, gradient in gradients(filled, tokens, mask).items():
        scale = expected[name].abs().max().item()
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-4 * scale + 1e-6)


@each_model
@torch.no_grad()
def test_a_mask_that_hides_nothing_changes_nothing(architecture):
    model, source, tokens = example(architecture)
    mask = torch.ones_like(source, dtype=torch.bool)
    torch.testing.assert_close(model(source, tokens, mask), model(source, tokens), rtol=1e-4, atol=1e-5)


@each_model
@torch.no_grad()
def test_texts_may_be_as_long_as_the_config_says_and_of_any_length_where_it_is_silent(architecture):
    model, _, _ = example(architecture)
    limit = getattr(model.config, "max_seq_len", None)
    long = torch.randint(model.config.vocab_size, (1, limit or 600))
    logits = model(long, long)
    changed = long.clone()
    changed[:, 0] = others(model, changed[:, 0])
    assert logits.isfinite().all()
    assert (model(changed, long)[:, -1] - logits[:, -1]).abs().max() > 1e-6
    assert (model(long, changed)[:, -1] - logits[:, -1]).abs().max() > 1e-6
    for longer in ("source", "tokens") if limit else ():
        with pytest.raises(ValueError, match="max_seq_len"):
            model(**{"source": long, "tokens": long} | {longer: torch.cat([long, long], dim=1)})


@each_model
@torch.no_grad()
@pytest.mark.parametrize("chunk", [1, 3], ids=["one by one", "in chunks"])
def test_reading_on_equals_reading_at_once(architecture, chunk):
    model, source, tokens = example(architecture)
    _, mask = padded(model, source, [source.shape[1], 5, 1])
    logits, state = model(source, tokens, mask), model.new_state(tokens.shape[1], source, mask)
    for start in range(0, tokens.shape[1], chunk):
        piece = tokens[:, start : start + chunk]
        last, state = model.step(piece, state)
        torch.testing.assert_close(last, logits[:, start + piece.shape[1] - 1], rtol=1e-4, atol=1e-5)


@each_model
@torch.no_grad()
def test_generate_equals_scoring_the_whole_text_again_for_every_token(architecture):
    model, source, _ = example(architecture)
    text = torch.full((len(source), 1), model.config.start_token)
    for _ in range(8):
        text = torch.cat([text, model(source, text)[:, -1:].argmax(-1)], dim=1)
    assert torch.equal(model.generate(source, 8, stop_tokens=[]), text[:, 1:])


@each_model
def test_a_mask_that_does_not_fit_is_refused(architecture):
    model, source, tokens = example(architecture)
    for mask in (torch.ones_like(source), torch.ones_like(source[:, 1:], dtype=torch.bool)):
        with pytest.raises(ValueError, match=r"source_mask is .*; it must be bool"):
            model(source, tokens, mask)


@each_model
@pytest.mark.parametrize("part", ["source", "tokens"])
@pytest.mark.parametrize("text", NO_TEXTS.values(), ids=NO_TEXTS.keys())
def test_what_is_no_batch_of_texts_is_refused(architecture, part, text):
    model, source, tokens = example(architecture)
    with pytest.raises(ValueError, match=r"text must be (an int64 tensor|\(batch, seq\) with seq at least 1), got"):
        model(**{"source": source, "tokens": tokens, part: text})


@each_model
@torch.no_grad()
@pytest.mark.parametrize(("sources", "texts"), [(2, 1), (1, 2), (3, 2)])
def test_texts_and_sources_of_different_number_are_refused(architecture, sources, texts):
    model, source, tokens = example(architecture)
    source, tokens = source[:sources], tokens[:texts]
    for read in (lambda: model(source, tokens), lambda: model.step(tokens, model.new_state(10, source))):
        with pytest.raises(ValueError, match=f"{texts} texts do not go with {sources} sources"):
            read()


@each_model
def test_the_state_of_a_model_of_another_depth_is_refused(architecture):
    model, source, tokens = example(architecture)
    state = model.new_state(10, source)
    with pytest.raises(ValueError, match=f"a state of 1 blocks does not fit a model of {model.config.depth}; take it"):
        model.step(tokens, state._replace(blocks=state.blocks[:1]))


def trained(model, networks, source, tokens):
    """Gradients, and the bytes that the forward pass kept for them."""
    kept = {}
    model.zero_grad()
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.update({t.data_ptr(): t.nbytes}) or t, lambda t: t)
    with recomputing(networks):
        with hooks:
            logits = model(source, tokens)
        logits.square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}, sum(kept.values())


@each_model
def test_recomputing_every_block_changes_no_gradient_and_keeps_less(architecture):
    model, *texts = example(architecture)
    plain, everything = trained(model, [], *texts)
    again, less = trained(model, [model], *texts)
    assert all(torch.equal(gradient, again[name]) for name, gradient in plain.items())
    assert less < everything
