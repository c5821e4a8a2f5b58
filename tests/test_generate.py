"""Generation: how a token is chosen, when a text ends, and what it leaves untouched."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from laws import build, perturbed
from torch import nn

from zoo.architectures.gpt2 import ARCHITECTURE, GPT2Config
from zoo.nn.generate import KVCache, generate, stream
from zoo.nn.sampling import Sampling

LOGITS = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()


class Counter(nn.Module):
    """After n comes n + 1; its memory is a recurrent state, the sum of all that it has read."""

    generate, stream = generate, stream

    def __init__(self, vocab=10):
        super().__init__()
        self.vocab, self.read = vocab, []
        self.dropout = nn.Dropout(0.5)

    def new_state(self, length):
        self.capacity = length
        return 0

    def step(self, tokens, state):
        self.read.append(tokens)
        logits = nn.functional.one_hot((tokens[:, -1] + 1) % self.vocab, self.vocab).float()
        return self.dropout(logits + 1), state + tokens.sum().item()


def drawn(sampling, logits=LOGITS, count=4000):
    """How often each token is drawn."""
    tokens = sampling.choose(logits.expand(count, -1), torch.Generator().manual_seed(0))
    return (tokens.bincount(minlength=logits.shape[-1]) / count).tolist()


def test_temperature_zero_takes_the_likeliest():
    assert Sampling().choose(torch.tensor([[1.0, 3.0, 2.0], [5.0, 3.0, 2.0]])).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1.0), [0.5, 0.25, 0.15, 0.1]),
        (Sampling(temperature=0.5), [0.7246, 0.1812, 0.0652, 0.0290]),
        (Sampling(temperature=1.0, top_k=1), [1, 0, 0, 0]),
        (Sampling(temperature=1.0, top_k=2), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(temperature=1.0, top_k=99), [0.5, 0.25, 0.15, 0.1]),
        (Sampling(temperature=1.0, top_p=0.01), [1, 0, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.7), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.8), [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
        (Sampling(temperature=1.0, top_p=1.0), [0.5, 0.25, 0.15, 0.1]),
        (Sampling(temperature=1.0, top_k=3, top_p=0.6), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(temperature=1.0, top_k=3, top_p=0.55), [1, 0, 0, 0]),
        (Sampling(temperature=1.0, min_p=0.4), [2 / 3, 1 / 3, 0, 0]),
        (Sampling(temperature=1.0, min_p=0.6), [1, 0, 0, 0]),
        (Sampling(temperature=1.0, top_k=3, min_p=0.2), [0.5 / 0.9, 0.25 / 0.9, 0.15 / 0.9, 0]),
    ],
    ids=str,
)
def test_tokens_are_drawn_as_often_as_they_are_likely(sampling, expected):
    assert drawn(sampling) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("temperature", [1e-20, 1e-30, 1e-40, 5e-324])
@pytest.mark.parametrize("options", [{}, {"top_p": 0.9}, {"min_p": 0.1}], ids=str)
def test_however_cold_it_is_the_likeliest_token_is_drawn(temperature, options):
    assert drawn(Sampling(temperature=temperature, **options), 1e4 * LOGITS, 20) == [1, 0, 0, 0]


def test_the_order_of_the_vocabulary_does_not_matter():
    shuffled = torch.tensor([3, 0, 2, 1])
    expected = torch.tensor([2 / 3, 1 / 3, 0, 0])[shuffled].tolist()
    assert drawn(Sampling(temperature=1.0, top_k=2), LOGITS[shuffled]) == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature -1.0 is not in"),
        ({"temperature": 1.0, "top_k": 0}, "top_k 0 leaves no token"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p 0.0 is not in"),
        ({"temperature": 1.0, "top_p": 1.5}, "top_p 1.5 is not in"),
        ({"top_k": 5}, "do nothing at temperature 0"),
        ({"top_p": 0.5}, "do nothing at temperature 0"),
        ({"min_p": 0.5}, "do nothing at temperature 0"),
        ({"temperature": 1.0, "min_p": 2.0}, "min_p 2.0 is not in"),
        ({"repetition_penalty": 0.0}, "repetition_penalty 0.0 is not in"),
        ({"lengths": torch.tensor([0])}, "each has at least 1 token"),
        ({"lengths": torch.tensor([1])}, "the longest fills its row"),
        ({"lengths": torch.tensor([2, 2])}, r"lengths must be \(batch,\) = \(1,\), got shape \(2,\)"),
        ({"max_new_tokens": -1}, "max_new_tokens -1 is negative"),
        ({"tokens": torch.zeros(2, 0, dtype=torch.int64)}, r"at least 1, got shape \(2, 0\)"),
        ({"tokens": torch.zeros(3, dtype=torch.int64)}, r"\(batch, seq\) .* got shape \(3,\)"),
        ({"tokens": torch.zeros(0, 3, dtype=torch.int64)}, r"shape \(0, 3\) have no row"),
        ({"tokens": torch.zeros(1, 2)}, "prompts must be an int64 tensor, got torch.float32"),
        ({"tokens": [[1, 2]]}, "prompts must be an int64 tensor, got list; torch.as_tensor"),
        ({"lengths": [2]}, r"lengths \[2\] are no int64 tensor; make it one by torch.tensor"),
        ({"lengths": torch.tensor([2.0])}, "lengths .* are no int64 tensor"),
        ({"stop_tokens": 1}, r"stop_tokens 1 is a single number; give a sequence, \[1\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_request_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Counter().generate(**{"tokens": torch.zeros(1, 2, dtype=torch.int64), "max_new_tokens": 3} | options)


def test_a_prompt_is_read_once_and_then_token_by_token():
    model = Counter()
    assert model.generate(torch.tensor([[7, 2, 4], [0, 0, 8]]), 3).tolist() == [[7, 2, 4, 5, 6, 7], [0, 0, 8, 9, 0, 1]]
    assert [tokens.shape[1] for tokens in model.read] == [3, 1, 1]
    assert model.capacity == 6


def test_no_new_tokens_leave_the_prompt():
    prompt = torch.tensor([[1, 2]])
    assert torch.equal(Counter().generate(prompt, 0), prompt)


def test_a_text_ends_with_its_stop_token_and_is_filled_up_with_it():
    model = Counter()
    texts = model.generate(torch.tensor([[4], [1], [2]]), 9, stop_tokens=[5])
    assert texts.tolist() == [[4, 5, 5, 5, 5], [1, 2, 3, 4, 5], [2, 3, 4, 5, 5]]
    assert len(model.read) == 4


def test_any_of_several_stop_tokens_ends_a_text():
    texts = Counter().generate(torch.tensor([[4], [7]]), 9, stop_tokens=[6, 9])
    assert texts.tolist() == [[4, 5, 6], [7, 8, 9]]


def test_prompts_of_different_lengths_are_continued_as_if_each_were_alone():
    prompts = torch.tensor([[7, 2, 4], [8, 9, 9], [0, 1, 9]])  # what stands behind a prompt is read by nobody
    texts = Counter().generate(prompts, 2, lengths=torch.tensor([3, 1, 2]))
    assert texts.tolist() == [[7, 2, 4, 5, 6], [8, 9, 0, 1, 2], [0, 1, 2, 3, 4]]


def test_a_longer_prompt_is_not_over_when_it_contains_the_stop_token():
    prompts, lengths = torch.tensor([[3, 5, 5, 1], [3, 0, 0, 0]]), torch.tensor([4, 1])
    texts = Counter().generate(prompts, 3, lengths=lengths, stop_tokens=[5])
    assert texts.tolist() == [[3, 5, 5, 1, 2, 3, 4], [3, 4, 5, 5, 5, 5, 5]]


def test_a_repetition_penalty_moves_tokens_of_the_text_towards_unlikely():
    logits, seen = torch.tensor([[2.0, -1.0, 1.5, -2.0]]), torch.tensor([[True, True, False, False]])
    chosen = Sampling(repetition_penalty=2.0)
    assert chosen.choose(logits).item() == 0
    assert chosen.choose(logits, seen=seen).item() == 2
    sampling = Sampling(temperature=1.0, repetition_penalty=2.0)
    tokens = sampling.choose(logits.expand(4000, -1), torch.Generator().manual_seed(0), seen.expand(4000, -1))
    expected = torch.tensor([1.0, -2.0, 1.5, -2.0]).softmax(-1).tolist()
    assert (tokens.bincount(minlength=4) / 4000).tolist() == pytest.approx(expected, abs=0.03)


def test_the_penalty_falls_on_the_prompt_and_on_what_was_generated():
    class Stubborn(Counter):
        def step(self, tokens, state):
            return torch.tensor([[4.0, 3.0, 2.5, 2.2]]).expand(len(tokens), -1), state

    prompt = torch.tensor([[3, 1], [3, 3]])
    assert Stubborn().generate(prompt, 2).tolist() == [[3, 1, 0, 0], [3, 3, 0, 0]]
    assert Stubborn().generate(prompt, 3, repetition_penalty=3.0).tolist() == [[3, 1, 0, 2, 0], [3, 3, 0, 1, 2]]


def test_a_stop_token_in_the_prompt_stops_nothing():
    assert Counter().generate(torch.tensor([[5, 5]]), 2, stop_tokens=[5]).tolist() == [[5, 5, 6, 7]]


def test_a_stream_gives_each_token_before_the_next_is_computed():
    model = Counter()
    tokens = model.stream(torch.tensor([[3], [8]]), 4)
    assert next(tokens).tolist() == [4, 9]
    assert len(model.read) == 1
    assert [token.tolist() for token in tokens] == [[5, 0], [6, 1], [7, 2]]


def test_a_generator_repeats_its_draws_and_leaves_the_global_one_alone():
    model = perturbed(ARCHITECTURE)
    prompt = model.example_inputs(3)["tokens"][:, :2]
    before = torch.get_rng_state()
    texts = [
        model.generate(prompt, 12, temperature=1.0, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    ]
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_is_off_and_every_module_keeps_its_mode():
    model = perturbed(ARCHITECTURE, GPT2Config(**vars(ARCHITECTURE.tiny) | {"dropout": 0.5}))
    prompt = model.example_inputs(2)["tokens"][:, :4]
    expected = model.generate(prompt, 8)
    model.train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    assert torch.equal(model.generate(prompt, 8), expected)
    assert [module.training for module in model.modules()] == modes


def test_an_abandoned_stream_leaves_a_model_in_train_mode():
    model = Counter()
    tokens = model.stream(torch.tensor([[0]]), 5)
    next(tokens)
    assert model.training
    assert model.dropout.training
    assert torch.is_grad_enabled()


def test_generation_keeps_no_graph():
    model = build(ARCHITECTURE)
    recorded = []
    model.norm.register_forward_hook(lambda _, __, output: recorded.append(output.requires_grad))
    model.generate(torch.zeros(2, 1, dtype=torch.int64), 3)
    assert recorded == [False, False, False]


def test_what_was_generated_can_be_learnt_from():
    model = build(ARCHITECTURE)
    assert not next(model.stream(torch.zeros(2, 1, dtype=torch.int64), 1)).is_inference()
    text = model.generate(torch.zeros(2, 1, dtype=torch.int64), 8, temperature=1.0)
    model(text).sum().backward()
    assert model.embed.weight.grad is not None


@torch.no_grad()
def test_the_cache_gives_the_logits_of_reading_everything_again():
    model = perturbed(ARCHITECTURE, GPT2Config(vocab_size=300, max_seq_len=200, dim=64, depth=4, num_heads=4))
    tokens = model.example_inputs(2)["tokens"]
    state = model.new_state(200)
    last, state = model.step(tokens[:, :50], state)
    stepped = [last]
    for position in range(50, 199):
        last, state = model.step(tokens[:, position : position + 1], state)
        stepped.append(last)
    expected = model(tokens)[:, 49:199]
    torch.testing.assert_close(torch.stack(stepped, dim=1), expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_a_cache_returns_what_was_put_in_and_refuses_more_than_it_was_made_for():
    cache, keys, values = KVCache(5), torch.randn(2, 3, 5, 4), torch.randn(2, 3, 5, 6)
    for start, end in ((0, 3), (3, 4), (4, 5)):
        key, value = cache.append(keys[..., start:end, :], values[..., start:end, :])
        assert torch.equal(key, keys[..., :end, :])
        assert torch.equal(value, values[..., :end, :])
    with pytest.raises(ValueError, match="6 tokens do not fit in a state made for 5"):
        cache.append(keys[..., :1, :], values[..., :1, :])


@pytest.mark.parametrize("shape", [(1, 3, 2, 4), (3, 3, 2, 4), (2, 1, 2, 4), (2, 3, 2, 1)], ids=str)
def test_a_cache_broadcasts_nothing(shape):
    cache = KVCache(5)
    cache.append(*torch.ones(2, 2, 3, 2, 4))
    with pytest.raises(ValueError, match="a state of 2 texts with 3 heads of 4 does not fit"):
        cache.append(*torch.ones(2, *shape))
    assert cache.length == 2


def test_a_single_row_of_bfloat16_is_multiplied_without_onednn_and_nothing_else():
    model = build(ARCHITECTURE).bfloat16()
    seen = []
    step = model.step

    def watched(tokens, state):
        seen.append((tokens.shape[1], torch.backends.mkldnn.enabled))
        return step(tokens, state)

    model.step = watched
    text = torch.tensor([[1, 2, 3]])
    model.generate(text, 3)
    assert seen == [(3, True), (1, False), (1, False)]
    for rows, dtype in ((text.repeat(2, 1), torch.bfloat16), (text, torch.float32)):
        seen.clear()
        model.to(dtype).generate(rows, 3)
        assert {enabled for _, enabled in seen} == {True}


def test_onednn_is_back_when_two_threads_have_written_at_once_and_when_a_step_fails():
    model, one = build(ARCHITECTURE).bfloat16(), torch.tensor([[1]])
    both_in, states = Barrier(2, timeout=60), []
    step = model.step

    def together(tokens, state):
        both_in.wait()  # so that the second finds it switched off
        states.append(torch.backends.mkldnn.enabled)
        both_in.wait()
        return step(tokens, state)

    model.step = together
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda _: model.generate(one, 3), range(2)))
    assert states == [False] * 6
    assert torch.backends.mkldnn.enabled
    del model.step
    with pytest.raises(IndexError):
        model.generate(torch.tensor([[model.config.vocab_size]]), 2)
    assert torch.backends.mkldnn.enabled
