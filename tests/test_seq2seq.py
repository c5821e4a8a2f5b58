"""Generation of encoder-decoders: from token to token, and by beams, which find what an exhaustive search finds."""

import itertools

import pytest
import torch
from laws import perturbed
from torch import nn

from zoo.architectures.t5 import ARCHITECTURE as T5
from zoo.architectures.t5 import T5Config
from zoo.architectures.transformer import ARCHITECTURE as TRANSFORMER
from zoo.architectures.transformer import TransformerConfig
from zoo.nn.generate import KVCache
from zoo.nn.sampling import Sampling
from zoo.nn.seq2seq import Memory, State, beam_search, generate, key_mask, select, stream

START, STOP, PAD = 0, 1, 2
FIVE = TransformerConfig(
    vocab_size=5, dim=16, depth=1, num_heads=2, mlp_dim=16, start_token=START, stop_token=STOP, pad_token=PAD
)


class Config:
    start_token, stop_token, pad_token = START, STOP, PAD


class Table(nn.Module):
    """A language whose texts have known probabilities: the source's first token chooses a table of what follows."""

    generate, stream = generate, stream
    config = Config()

    def __init__(self, *tables):
        super().__init__()
        self.log_probs = nn.Parameter(torch.tensor(tables).log())  # (tables, token, next token)
        self.read = []

    def new_state(self, length, source, source_mask=None):
        return {"table": source[:, 0]}

    def step(self, tokens, state):
        self.read.append(tokens)
        return self.log_probs[state["table"], tokens[:, -1]], state


GARDEN_PATH = [
    # start, stop, pad, a, b: a is likelier than b, but nothing good comes after it
    [0.0, 0.0, 0.0, 0.6, 0.4],
    [0.0, 1.0, 0.0, 0.0, 0.0],
    [0.0, 1.0, 0.0, 0.0, 0.0],
    [0.0, 0.4, 0.0, 0.3, 0.3],
    [0.0, 0.9, 0.0, 0.1, 0.0],
]
A, B = 3, 4


def source(*rows):
    return torch.tensor(rows or [[0]])


def random_model(seed, vocab=5):
    """A transformer that is far from sure and far from indifferent."""
    torch.manual_seed(seed)
    return shaken(perturbed(TRANSFORMER, TransformerConfig(**vars(FIVE) | {"vocab_size": vocab})))


@torch.no_grad()
def shaken(model):
    """What it writes depends on what it reads."""
    for parameter in model.parameters():
        parameter += 0.3 * torch.randn_like(parameter)
    return model


@torch.no_grad()
def log_probability(model, given, text):
    """Of a text, (seq,), as the model's forward scores it."""
    tokens = torch.cat([torch.tensor([model.config.start_token]), text[:-1]])
    logits = model(given[None], tokens[None])[0]
    return logits.log_softmax(-1).gather(1, text[:, None]).sum().item()


def every_text(vocab, longest):
    """All that end with the stop token, or are as long as a text may be."""
    others = [token for token in range(vocab) if token != STOP]
    for length in range(1, longest + 1):
        for words in itertools.product(others, repeat=length - 1):
            for last in range(vocab) if length == longest else [STOP]:
                yield torch.tensor([*words, last])


def without_padding(text):
    ends = (text == STOP).nonzero()
    return text[: int(ends[0]) + 1] if len(ends) else text


def test_the_likeliest_first_token_is_not_the_beginning_of_the_likeliest_text():
    model = Table(GARDEN_PATH)
    assert model.generate(source(), 5).tolist() == [[A, STOP]]  # .6 x .4
    assert model.generate(source(), 5, num_beams=2, length_penalty=0.0).tolist() == [[B, STOP]]  # .4 x .9


def test_an_ended_text_is_filled_up_with_padding():
    sure = [[0, 0, 0, 1, 0], [0.2] * 5, [0.2] * 5, [0, 0, 0, 0, 1], [0, 1, 0, 0, 0]]
    short = [[0, 1, 0, 0, 0], *sure[1:]]
    for beams in (1, 3):
        texts = Table(sure, short).generate(source([1], [0], [1]), 9, num_beams=beams)
        assert texts.tolist() == [[STOP, PAD, PAD], [A, B, STOP], [STOP, PAD, PAD]]


def test_only_as_many_steps_are_taken_as_needed():
    for beams, most in ((1, 2), (2, 3)):
        model = Table(GARDEN_PATH)
        model.generate(source(), 50, num_beams=beams, length_penalty=0.0)
        assert len(model.read) <= most


def test_a_penalty_for_shortness_prefers_the_longer_of_two_texts():
    model = Table([[0, 0.36, 0, 0.64, 0], [0, 1, 0, 0, 0], [0.2] * 5, [0, 0, 0, 0, 1], [0, 0.55, 0, 0.45, 0]])
    # stop: log .36 = -1.02; a b stop: log .352 = -1.044, which (8 / 6) ** alpha divides
    assert model.generate(source(), 8, num_beams=4, length_penalty=0.0).tolist() == [[STOP]]
    assert model.generate(source(), 8, num_beams=4, length_penalty=0.2).tolist() == [[A, B, STOP]]


def test_a_finished_text_is_kept_while_others_go_on_and_lose():
    """Stop is best at once; the beams stay open, for the penalty could make up for more, but does not."""
    model = Table([[0, 0.51, 0, 0.49, 0], [0.2] * 5, [0.2] * 5, [0, 0.1, 0, 0.9, 0], [0.2] * 5])
    assert model.generate(source(), 12, num_beams=3, length_penalty=0.6).tolist() == [[STOP]]
    assert 3 < len(model.read) < 12


def test_several_tokens_may_end_a_text_and_none_need():
    model = Table(GARDEN_PATH)
    assert model.generate(source(), 4, stop_tokens=[B, A]).tolist() == [[A]]
    assert model.generate(source(), 4, num_beams=2, stop_tokens=[B, A]).tolist() == [[A]]
    endless = Table([[0, 0, 0, 1, 0], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 1, 0, 0, 0], [0.2] * 5])
    for beams in (1, 2):
        assert endless.generate(source(), 5, num_beams=beams, stop_tokens=[]).tolist() == [[A, STOP, A, STOP, A]]


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(6))
def test_enough_beams_find_the_best_of_all_texts(seed, length_penalty):
    model, given = random_model(seed), torch.randint(5, (2, 4))
    found = model.generate(given, 3, num_beams=5**3, length_penalty=length_penalty)
    for row, text in zip(given, found, strict=True):
        scores = {
            tuple(each.tolist()): log_probability(model, row, each) / ((5 + len(each)) / 6) ** length_penalty
            for each in every_text(5, 3)
        }
        assert tuple(without_padding(text).tolist()) == max(scores, key=scores.get)


@pytest.mark.parametrize("seed", range(4))
def test_one_beam_without_a_penalty_is_greedy(seed):
    model, given = random_model(seed, vocab=9), torch.randint(9, (5, 4))
    assert torch.equal(beam_search(model, given, 8, num_beams=1, length_penalty=0.0), model.generate(given, 8))


def test_an_end_that_is_not_among_the_best_is_none():
    """Else a single beam would remember that it could have ended, which choosing token by token does not."""
    model = Table([[0, 0.45, 0, 0.55, 0], [0.2] * 5, [0.2] * 5, [0, 0.4, 0, 0.3, 0.3], [0.2] * 5])
    assert beam_search(model, source(), 5, num_beams=1, length_penalty=0.0).tolist() == [[A, STOP]]
    assert beam_search(model, source(), 5, num_beams=2, length_penalty=0.0).tolist() == [[STOP]]


@pytest.mark.parametrize("seed", range(4))
def test_a_row_finds_what_it_finds_alone(seed):
    model, given = random_model(seed, vocab=9), torch.randint(9, (5, 4))
    together = model.generate(given, 8, num_beams=3)
    for row, text in zip(given, together, strict=True):
        alone = model.generate(row[None], 8, num_beams=3)[0]
        assert torch.equal(text[: len(alone)], alone)
        assert (text[len(alone) :] == PAD).all()


@pytest.mark.parametrize("architecture", [TRANSFORMER, T5], ids=lambda record: record.name)
@pytest.mark.parametrize("beams", [1, 3])
def test_padding_behind_a_source_changes_nothing(architecture, beams):
    model = shaken(perturbed(architecture))
    given = model.example_inputs(6)["source"]
    padded = torch.cat([given, torch.randint(32, (6, 5))], dim=1)
    mask = torch.arange(padded.shape[1]).expand(6, -1) < given.shape[1]
    texts = model.generate(given, 9, num_beams=beams)
    assert torch.equal(model.generate(padded, 9, num_beams=beams, source_mask=mask), texts)


@torch.no_grad()
@pytest.mark.parametrize("architecture", [TRANSFORMER, T5], ids=lambda record: record.name)
def test_beams_take_their_memories_along(architecture):
    """What a search says of a text's probability is what the forward pass says, whatever beams it changed to."""
    model = perturbed(architecture)
    given = model.example_inputs(4)["source"]
    stop = model.config.stop_token
    better = 0
    for row in given:
        greedy, searched = (model.generate(row[None], 8, num_beams=n, length_penalty=0.0)[0] for n in (1, 6))
        texts = [t[: int((t == stop).nonzero()[0]) + 1] if (t == stop).any() else t for t in (greedy, searched)]
        likelier = [log_probability(model, row, text) for text in texts]
        assert likelier[1] >= likelier[0] - 1e-5
        better += likelier[1] > likelier[0] + 1e-5
    assert better


@pytest.mark.peers
@torch.no_grad()
@pytest.mark.parametrize("early", [False, "never"], ids=["heuristic", "never early"])
@pytest.mark.parametrize("seed", range(5))
def test_beams_without_a_penalty_find_the_texts_of_transformers(seed, early, tmp_path):
    """Their penalty is another one, a power of the length; without it a text's score is its probability in both.

    Their `early_stopping` then makes no difference, unless it is True, which takes the first three that end.
    """
    ours, theirs = t5_pair(seed)
    given = torch.randint(2, 40, (6, 12))
    mask = torch.arange(12) < torch.tensor([12, 3, 7, 12, 1, 9])[:, None]
    expected = theirs.generate(
        input_ids=given, attention_mask=mask.long(), max_new_tokens=10, do_sample=False, num_beams=3,
        length_penalty=0.0, early_stopping=early, decoder_start_token_id=0,
    )[:, 1:]  # fmt: skip
    found = ours.generate(given, 10, source_mask=mask, num_beams=3, length_penalty=0.0)
    assert torch.equal(found, expected)
    assert not torch.equal(nn.functional.pad(found, (0, 10 - found.shape[1])), padded_greedy(ours, given, mask))


def padded_greedy(model, given, mask):
    greedy = model.generate(given, 10, source_mask=mask)
    return nn.functional.pad(greedy, (0, 10 - greedy.shape[1]))


def t5_pair(seed):
    transformers = pytest.importorskip("transformers")
    from zoo.convert import foreign_tensors

    torch.manual_seed(seed)
    config = T5Config(vocab_size=40, dim=32, depth=2, num_heads=4, head_dim=8, mlp_dim=48, dropout=0.0)
    ours = perturbed(T5, config)
    with torch.no_grad():
        ours.embed.weight[1] *= 1.5  # so that some texts end
    theirs = transformers.T5ForConditionalGeneration(
        transformers.T5Config(vocab_size=40, d_model=32, num_layers=2, num_heads=4, d_kv=8, d_ff=48)
    ).eval()
    theirs.load_state_dict(foreign_tensors(ours, "transformers"), strict=False)
    theirs.tie_weights()
    return ours, theirs


def test_draws_follow_the_model_and_can_be_repeated():
    model = Table(GARDEN_PATH)
    many = source(*[[0]] * 4000)
    first, again = (
        model.generate(many, 1, temperature=1.0, generator=torch.Generator().manual_seed(0))[:, 0] for _ in range(2)
    )
    assert torch.equal(first, again)
    assert (first == A).float().mean().item() == pytest.approx(0.6, abs=0.03)
    assert (model.generate(many, 1, temperature=1.0, top_k=1) == A).all()


def test_a_stream_gives_the_columns_of_generate_as_they_come():
    model = Table(GARDEN_PATH)
    columns = model.stream(source([0], [0]), 5, sampling=Sampling())
    assert model.read == []
    assert next(columns).tolist() == [A, A]
    assert len(model.read) == 1
    assert next(columns).tolist() == [STOP, STOP]
    assert list(columns) == []


@pytest.mark.parametrize("architecture", [TRANSFORMER, T5], ids=lambda record: record.name)
@pytest.mark.parametrize("beams", [1, 2])
def test_dropout_is_off_meanwhile_and_modes_stay(architecture, beams):
    model = perturbed(architecture)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    given = model.example_inputs(2)["source"]
    expected = model.generate(given, 6, num_beams=beams)
    model.train()
    model.encoder.eval()
    assert torch.equal(model.generate(given, 6, num_beams=beams), expected)
    assert model.training
    assert not any(module.training for module in model.encoder.modules())


@pytest.mark.parametrize("beams", [1, 3])
def test_the_source_is_read_once(beams, monkeypatch):
    model, calls = perturbed(TRANSFORMER), []
    model.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    model.decoder.blocks[0].cross.key.register_forward_hook(lambda *_: calls.append("cross keys"))
    model.generate(model.example_inputs(2)["source"], 5, num_beams=beams, stop_tokens=[])
    assert calls == ["encoder", "cross keys"]


@pytest.mark.parametrize("beams", [1, 3])
def test_no_new_tokens_are_an_empty_text(beams):
    model = perturbed(TRANSFORMER)
    assert model.generate(model.example_inputs(2)["source"], 0, num_beams=beams).shape == (2, 0)


def test_select_takes_rows_of_whatever_a_state_is_made_of():
    cache, rows = KVCache(4), torch.tensor([2, 2, 0])
    cache.append(*torch.arange(3.0).view(1, 3, 1, 1, 1).expand(2, -1, 2, 1, 5))
    state = State([Memory(torch.arange(3), torch.arange(3) * 10, cache)], None)
    chosen = select(state, rows)
    assert isinstance(chosen, State)
    assert chosen.mask is None
    memory = chosen.blocks[0]
    assert (memory.key.tolist(), memory.value.tolist()) == ([2, 2, 0], [20, 20, 0])
    keys, _ = memory.past.append(*torch.zeros(2, 3, 2, 1, 5))
    assert keys[:, 0, :, 0].tolist() == [[2, 0], [2, 0], [0, 0]]
    assert cache.length == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_beams": 0}, "num_beams 0 must be at least 1"),
        ({"num_beams": 2, "length_penalty": -1.0}, "length_penalty -1.0 at least 0"),
        ({"num_beams": 2, "temperature": 1.0}, "num_beams 2 searches and draws nothing"),
        ({"num_beams": 2, "repetition_penalty": 1.2}, "num_beams 2 searches and draws nothing"),
        ({"max_new_tokens": -1}, "max_new_tokens -1 is negative"),
        ({"num_beams": 2, "max_new_tokens": -1}, "max_new_tokens -1 is negative"),
        ({"temperature": -1.0}, "temperature -1.0 is not in"),
        ({"source_mask": torch.ones(2, 3)}, r"source_mask is torch\.float32 of shape \(2, 3\); it must be bool"),
        ({"source": torch.zeros(3, dtype=torch.int64)}, r"\(batch, seq\) .* got shape \(3,\)"),
        ({"stop_tokens": 1}, r"stop_tokens 1 is a single number; give a sequence, \[1\]"),
        ({"stop_tokens": 1, "num_beams": 2}, "stop_tokens 1 is a single number"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_wrong_request_is_refused(options, message):
    model = perturbed(TRANSFORMER)
    given = torch.zeros(2, 3, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        model.generate(**{"source": given, "max_new_tokens": 3} | options)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match=r"shape \(2, 4\); it must be bool.* of its shape \(2, 3\)"):
        key_mask(torch.zeros(2, 3), torch.ones(2, 4, dtype=torch.bool))
