"""Data whose right answer is known: copying, brackets, a bouncing ball, docstrings; and what is learnt from them."""

import numpy as np
import pytest
import torch
from torch import nn

import zoo
from zoo.tokenizer import learn_tokenizer, tokenizer_files
from zoo.training.data import DATA_SETS, Spec
from zoo.training.data.bouncing_ball import BouncingBall
from zoo.training.data.brackets import Brackets, balanced
from zoo.training.data.copying import BLANK, FIRST, IGNORE, SIGN, Copying
from zoo.training.data.docstrings import Docstrings, pairs_of
from zoo.training.objectives import Context
from zoo.training.objectives.forecasting import Forecasting, ForecastingConfig
from zoo.training.objectives.sentence_embedding import SentenceEmbedding, SentenceEmbeddingConfig
from zoo.training.random import Rows
from zoo.weights import remember

SMALL = {"vision": "text", "shared_towers": True, "dim": 8}
SMALL |= {f"{tower}_{size}": 1 for tower in ("vision", "text") for size in ("depth", "num_heads")}
SMALL |= {f"{tower}_{size}": 8 for tower in ("vision", "text") for size in ("dim", "mlp_dim")}
DRAWN = {"copying": Copying, "brackets": Brackets, "bouncing_ball": BouncingBall}


def load(name, **options):
    record = DATA_SETS.find(name)
    return record.load(record.config(**options))


def rngs(count, seed=0):
    return [np.random.default_rng([seed, index]) for index in range(count)]


@pytest.mark.parametrize("name", DRAWN)
def test_what_is_evaluated_never_changes_and_what_is_learnt_is_drawn(name):
    splits = load(name)
    for part in (splits.val, splits.test):
        first, again = part.fetch([3, 5], None), part.fetch([5, 3], None)
        assert all(torch.equal(first[key], again[key].flip(0)) for key in first)
        assert first.keys() == set(splits.spec.keys)
    drawn = [splits.train.fetch([0, 1], rngs(2, seed)) for seed in (0, 0, 1)]
    key = splits.spec.keys[0]
    assert torch.equal(drawn[0][key], drawn[1][key])
    assert not torch.equal(drawn[0][key], drawn[2][key])
    alone = splits.train.fetch([1], rngs(2)[1:])
    assert torch.equal(alone[key], drawn[0][key][1:])


@pytest.mark.parametrize("name", DRAWN)
def test_parts_have_no_sample_in_common(name):
    splits = load(name, **({"min_pairs": 10} if name == "brackets" else {}))
    key = splits.spec.keys[0]
    seen = [
        {row.numpy().tobytes() for row in part.fetch(range(200), None if part is not splits.train else rngs(200))[key]}
        for part in (splits.train, splits.val, splits.test)
    ]
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]


@pytest.mark.parametrize("selective", [False, True], ids=["plain", "selective"])
def test_the_symbols_are_to_be_repeated_in_order(selective):
    batch = load("copying", selective=selective, num_symbols=5, gap=11).train.fetch(range(64), rngs(64))
    assert batch["tokens"].shape == (64, 21)
    for tokens, target in zip(batch["tokens"], batch["target"], strict=True):
        shown = tokens[:16][tokens[:16] != BLANK]
        assert (shown >= FIRST).all()
        assert target[16:].tolist() == shown.tolist()
        assert (target[:16] == IGNORE).all()
        assert (tokens[16:] == SIGN).all()
    places = (batch["tokens"][:, :16] != BLANK).float().mean(0)
    assert (places[:5] == 1).all() != selective
    assert (places > 0).all() == selective


def test_half_of_the_rows_of_brackets_are_balanced_and_all_labels_are_true():
    batch = load("brackets", kinds=3).train.fetch(range(500), rngs(500))
    assert 0.4 < batch["target"].float().mean() < 0.6
    for tokens, mask, target in zip(batch["tokens"], batch["mask"], batch["target"], strict=True):
        row = tokens[mask].tolist()
        assert not tokens[~mask].any()
        assert all(1 <= token <= 6 for token in row)
        stack, fine = [], True
        for token in row:
            if token % 2:
                stack.append(token)
            else:
                fine &= bool(stack) and stack.pop() == token - 1
        assert (fine and not stack) == bool(target)


def test_balanced_rows_are_of_every_depth():
    def depth(row):
        return max(np.cumsum([1 if token % 2 else -1 for token in row]))

    rows = [balanced(rng, 4, 1) for rng in rngs(400)]
    assert {tuple(row) for row in rows if len(row) == 8} == {tuple(row) for row in rows}
    assert {depth(row) for row in rows} == {1, 2, 3, 4}
    assert len({tuple(row) for row in rows}) == 14  # the fourth Catalan number


def test_the_ball_flies_straight_and_stays_between_the_walls():
    batch = load("bouncing_ball").train.fetch(range(100), rngs(100))
    assert torch.equal(batch["features"][:, 1:], batch["target"][:, :-1])
    assert batch["features"].abs().max() <= 1
    steps = batch["features"].diff(dim=1)
    bends = steps.diff(dim=1).abs() > 1e-5
    assert 0.01 < bends.float().mean() < 0.4  # two bends a bounce
    speeds = steps.abs()[:, 1:][~bends]
    assert speeds.min() >= 2 * 0.02 - 1e-5
    assert speeds.max() <= 2 * 0.12 + 1e-5


def test_docstrings_and_functions_belong_together_and_parts_to_other_files():
    splits = load("docstrings", seq_len=64, ends=False)
    assert splits.spec.end_token is None
    assert len(splits.train) > 3000
    assert len(splits.test) >= 500
    for part in (splits.val, splits.test):
        assert not {text for text, _ in part.texts} & {text for text, _ in splits.train.texts}
        assert len({text for text, _ in part.texts}) == len(part)
    batch = splits.test.fetch([0, 7], None)
    assert batch.keys() == set(splits.spec.keys)
    assert all(value.shape == (2, 64) for value in batch.values())
    docstring, function = splits.test.texts[7]
    written = bytes(batch["tokens"][1][batch["mask"][1]].tolist())
    assert docstring.encode().startswith(written)
    assert function.startswith("def f(")


def test_docstrings_and_functions_end_if_that_is_asked_for_and_models_are_told_how():
    splits = load("docstrings", seq_len=64)
    assert splits.spec.end_token == 0
    batch = splits.test.fetch(range(50), None)
    for tokens, mask in ((batch["tokens"], batch["mask"]), (batch["pair_tokens"], batch["pair_mask"])):
        last = mask.sum(1) - 1
        assert 50 > (last == 63).sum() > 0
        assert torch.equal((tokens == 0).int().argmax(1), last)


def test_a_vocabulary_of_docstrings_is_learnt_from_the_training_part_and_goes_with_the_model():
    splits = load("docstrings", seq_len=32, vocab_size=600)
    assert splits.spec.vocab_size == splits.train.tokenizer.vocab_size == 600
    assert splits.spec.tokenizer == tokenizer_files(splits.test.tokenizer)
    learnt = learn_tokenizer([text for pair in splits.train.texts for text in pair], 600)
    assert learnt.files == splits.spec.tokenizer
    batch = splits.val.fetch(range(20), None)
    assert batch["tokens"].shape == (20, 32)
    assert (batch["tokens"] == splits.spec.end_token).sum(1).tolist() == [1] * 20
    with pytest.raises(ValueError, match="vocab_size 600 is of a vocabulary that ends each text"):
        Docstrings(vocab_size=600, ends=False)


def test_a_model_that_is_trained_further_goes_on_reading_by_its_own_vocabulary(tmp_path):
    other = learn_tokenizer(["Return the name of the file."] * 2, 270)
    for name, content in other.files.items():
        (tmp_path / name).write_bytes(content)
    splits = load("docstrings", seq_len=16, vocab_size=600, tokenizer=str(tmp_path / "tokenizer.json"))
    assert splits.spec.vocab_size == 270
    assert splits.spec.tokenizer == other.files
    model = zoo.create("clip", **SMALL, vocab_size=270, end_token=1, max_seq_len=16)
    remember(model, tokenizer="tokenizer.json", files=other.files)
    zoo.save(model, tmp_path / "model")
    data = {"name": "docstrings", "seq_len": 16, "vocab_size": 600}
    config = zoo.RunConfig.of(
        {"model": f"local-dir:{tmp_path / 'model'}", "data": data, "trainer": {"steps": 1, "device": "cpu"}}
    )
    assert zoo.Trainer(config, quiet=True).splits.spec.tokenizer == other.files


def test_so_many_pairs_are_held_out_as_are_asked_for_whatever_the_library_has_besides():
    every, some = load("docstrings"), load("docstrings", test_pairs=300)
    assert len(some.train) == len(every.train)
    for name in ("val", "test"):
        chosen, among = getattr(some, name).texts, getattr(every, name).texts
        assert len(chosen) == len(set(chosen) & set(among)) == 300
        assert list(chosen) != list(among[:300])
    with pytest.raises(ValueError, match="test_pairs 9000 is more than the"):
        load("docstrings", test_pairs=9000)


def test_a_function_is_found_without_its_docstring_its_name_and_its_decorators():
    source = b'''
class A:
    @cached
    def area(self, scale: int = 2) -> int:
        """The area of a square,   in
        square metres."""
        return scale * self.side ** 2

def short():
    "Too short."
    return 1

def empty():
    """There is nothing below this docstring."""
'''
    expected = "def f(self, scale: int=2) -> int:\n    return scale * self.side ** 2"
    assert pairs_of(source, min_length=20) == {"The area of a square, in square metres.": expected}
    assert pairs_of(b"def broken(:", min_length=1) == {}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (lambda: Copying(num_symbols=0), "num_symbols 0 is below 1"),
        (lambda: Copying(gap=-1), "gap -1 is negative"),
        (lambda: Brackets(min_pairs=9, max_pairs=3), r"min_pairs 9 is not in \[1, 3\]"),
        (lambda: BouncingBall(min_speed=0.5), r"min_speed 0\.5 is not in"),
        (lambda: Docstrings(seq_len=0), "seq_len 0 is below 1"),
    ],
    ids=["symbols", "gap", "pairs", "speed", "length"],
)
def test_impossible_data_are_refused(config, message):
    with pytest.raises(ValueError, match=message):
        config()


class Still(nn.Module):
    """Guesses that nothing changes."""

    def forward(self, features):
        return features


def test_forecasts_are_compared_with_the_guess_that_nothing_changes():
    batch, spec = load("bouncing_ball").test.fetch(range(16), None), load("bouncing_ball").spec
    objective = Forecasting(ForecastingConfig(), spec)
    metrics = objective.summarize(
        {name: (total, torch.tensor(float(count))) for name, (total, count) in
         objective.evaluate({"model": Still()}, batch, None).items()}
    )  # fmt: skip
    error = (batch["target"] - batch["features"]).square().mean()
    assert metrics["loss"] == pytest.approx(error.item())
    assert metrics["rmse"] == pytest.approx(error.sqrt().item())
    assert metrics["error_ratio"] == pytest.approx(1)
    total, count, _ = objective.loss(objective.phases()[0], {"model": Still()}, batch, None).terms["mse"]
    assert count == batch["target"].numel()
    assert (total / count).item() == pytest.approx(error.item())
    with pytest.raises(ValueError, match=r"set model\.out_features=2"):
        objective.loss(objective.phases()[0], {"model": lambda features: features[..., :1]}, batch, None)
    with pytest.raises(ValueError, match="needs data of series, but these give image"):
        Forecasting(ForecastingConfig(), Spec(keys=("image",)))


class Table(nn.Module):
    """A vector for each token."""

    def __init__(self, size=40, dim=16):
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(size, dim)

    def forward(self, tokens, mask):
        return self.table(tokens)


def pairs(tokens, pair_tokens):
    first, second = torch.tensor(tokens), torch.tensor(pair_tokens)
    return {"tokens": first, "mask": first > 0, "pair_tokens": second, "pair_mask": second > 0}


def retrieved(model, batch, sizes=None):
    """The metrics of a split that is fetched in parts of these sizes."""
    objective, totals, start = SentenceEmbedding(SentenceEmbeddingConfig(), load("docstrings").spec), {}, 0
    for size in sizes or [len(batch["tokens"])]:
        samples = [(-1, index) for index in range(start, start + size)]
        ctx = Context(0, Rows(0, "evaluate/", samples, torch.device("cpu")), training=False)
        part = {name: values[start : start + size] for name, values in batch.items()}
        for name, (total, count) in objective.evaluate({"model": model}, part, ctx).items():
            totals[name] = (totals[name][0] + total, totals[name][1] + count) if name in totals else (total, count)
        start += size
    return objective.summarize(totals)


@torch.no_grad()
def test_a_text_shall_find_its_partner_among_those_of_the_split():
    model, texts = Table(), [[3, 4, 0], [5, 0, 0], [6, 7, 8]]
    batch = pairs(texts, [[4, 3, 0, 0], [5, 5, 0, 0], [8, 7, 6, 0]])
    alike = retrieved(model, batch)
    crossed = retrieved(model, pairs(texts, [[5], [3], [9]]))
    assert alike["recall@1"] == alike["back_recall@1"] == 1
    assert alike["loss"] < 0.05
    assert crossed["recall@1"] < 1
    assert crossed["recall@10"] == 1
    assert crossed["loss"] > 1
    assert retrieved(model, batch, sizes=(2, 1)) == pytest.approx(alike)


@torch.no_grad()
def test_an_encoder_that_tells_nothing_apart_finds_partners_by_chance_and_one_of_nan_finds_none():
    texts = [[n] for n in range(1, 21)]
    for value, found in ((1.0, 1), (torch.nan, 0)):
        model = Table()
        nn.init.constant_(model.table.weight, value)
        metrics = retrieved(model, pairs(texts, texts))
        assert metrics["recall@1"] == pytest.approx(found / 20)
        assert metrics["recall@10"] == pytest.approx(10 * found / 20)


@torch.no_grad()
def test_partners_that_are_the_same_text_share_a_hit():
    metrics = retrieved(Table(), pairs([[3], [3], [5]], [[3], [3], [5]]))
    assert metrics["recall@1"] == pytest.approx(2 / 3)


def test_the_contrast_is_the_cross_entropy_of_both_directions():
    objective = SentenceEmbedding(SentenceEmbeddingConfig(temperature=0.5), load("docstrings").spec)
    batch = pairs([[3, 4, 0], [5, 0, 0]], [[6, 0], [7, 8]])
    total, count, _ = objective.loss(objective.phases()[0], {"model": (model := Table())}, batch, None).terms[
        "contrast"
    ]
    rows = model.table.weight
    first = torch.stack([rows[[3, 4]].mean(0), rows[5]])
    second = torch.stack([rows[6], rows[[7, 8]].mean(0)])
    scores = torch.cosine_similarity(first[:, None], second[None], dim=-1) / 0.5
    expected = -(scores.log_softmax(1).diagonal() + scores.log_softmax(0).diagonal()).sum() / 2
    assert count == 2
    torch.testing.assert_close(total, expected)


def test_a_model_that_gives_no_vectors_is_refused():
    objective = SentenceEmbedding(SentenceEmbeddingConfig(), load("docstrings").spec)
    batch = pairs([[3]], [[4]])
    with pytest.raises(ValueError, match=r"not a vector for each token; .* model\.head=none"):
        objective.loss(objective.phases()[0], {"model": lambda tokens, mask: torch.zeros(1, 5)}, batch, None)
    with pytest.raises(ValueError, match="needs pairs of texts; the data lack pair_tokens, pair_mask"):
        SentenceEmbedding(SentenceEmbeddingConfig(), Spec(keys=("tokens", "mask")))
