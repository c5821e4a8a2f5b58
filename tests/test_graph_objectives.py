"""What is learnt from graphs: gradients and metrics do not depend on how samples are cut into batches."""

import itertools

import numpy as np
import pytest
import torch
from samples import read, whole
from sklearn.metrics import average_precision_score, roc_auc_score
from small_graphs import Layers, accumulated_gradient, graph_trainer, objective_for
from test_resume import Crash, crash_at, final
from torch.nn import functional as F

import zoo
from zoo.config import ConfigError
from zoo.training.data import IGNORE, Spec
from zoo.training.objectives import OBJECTIVES, Context, NoOptions, suited
from zoo.training.objectives.labels import check_logits
from zoo.training.objectives.link_prediction import LinkPrediction
from zoo.training.random import Rows
from zoo.training.ranking import average_precision, roc_auc

DATA = {
    "nodes": lambda **options: read("block_model", community_size=20, labelled=0.5, **options),
    "graphs": lambda: read("degree_classes", samples=40, held_out=30),
    "links": lambda: read("block_model", community_size=20, links=True),
}
each_kind = pytest.mark.parametrize("kind", DATA)


@pytest.mark.parametrize("kind", ["nodes", "graphs"])
def test_the_gradient_does_not_depend_on_how_samples_are_cut(kind):
    data = DATA[kind]()
    model, objective = Layers(data.spec.in_features, 4), objective_for(data.spec)
    samples = [(0, 3), (0, 7), (1, 3), (0, 8), (1, 7), (1, 9), (0, 20)]
    one = accumulated_gradient(data.train, objective, model, [samples])
    assert one.abs().max() > 0.01
    for sizes in ([1] * 7, [3, 4], [2, 4, 1]):
        edges = np.cumsum([0, *sizes])
        parts = [samples[a:b] for a, b in itertools.pairwise(edges)]
        cut = accumulated_gradient(data.train, objective, model, parts)
        torch.testing.assert_close(cut, one, rtol=0, atol=1e-6 * max(1.0, float(one.abs().max())))


@pytest.mark.parametrize("kind", ["nodes", "graphs"])
def test_accumulated_steps_train_to_the_same_weights(kind):
    data = DATA[kind]()
    whole_batch, cut = (
        graph_trainer(data, batch_size=size, accumulate=12 // size, steps=5).fit().model for size in (12, 3)
    )
    for first, second in zip(whole_batch.parameters(), cut.parameters(), strict=True):
        torch.testing.assert_close(first, second, rtol=0, atol=2e-6)


@each_kind
def test_metrics_do_not_depend_on_the_batch_size(kind):
    data = DATA[kind]()
    expected, *others = (graph_trainer(data, batch_size=size).evaluate() for size in (1000, 1, 7, 64))
    for found in others:
        assert found == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_nodes_is_the_mean_over_those_asked_for():
    data = DATA["nodes"]()
    trainer, batch = graph_trainer(data), whole(data.test)
    with torch.no_grad():
        logits = trainer.model(batch["nodes"], batch["edges"])[batch["asked"]]
    metrics = trainer.evaluate()
    assert metrics["loss"] == pytest.approx(float(F.cross_entropy(logits, batch["target"])), rel=1e-6)
    assert metrics["accuracy"] == pytest.approx(float((logits.argmax(1) == batch["target"]).double().mean()))


def test_a_target_for_each_node_says_the_same_as_nodes_that_are_asked_for():
    data = DATA["nodes"]()
    objective, batch = objective_for(data.spec), data.train.fetch([2, 5, 11], None)
    target = torch.full((80,), IGNORE)
    target[batch["asked"]] = batch["target"]
    spread = {"nodes": batch["nodes"], "edges": batch["edges"], "target": target}
    nets = {"model": Layers(80, 4)}
    first, second = (objective.loss(objective.phases()[0], nets, each, None) for each in (batch, spread))
    assert [int(loss.terms["cross_entropy"][1]) for loss in (first, second)] == [3, 3]
    torch.testing.assert_close(first.terms["cross_entropy"][0], second.terms["cross_entropy"][0])
    assert first.logs["accuracy"][0] == second.logs["accuracy"][0]


def test_graphs_without_nodes_are_asked_about_too():
    spec = Spec(keys=("nodes", "edges", "graph", "target"), num_classes=3, in_features=2)
    objective, model = objective_for(spec), Layers(2, 3)
    batch = {
        "nodes": torch.ones(2, 2),
        "edges": torch.tensor([[0], [1]]),
        "graph": torch.tensor([1, 1]),
        "target": torch.tensor([0, 1, 2]),
    }
    term = objective.loss(objective.phases()[0], {"model": model}, batch, None).terms["cross_entropy"]
    logits = model(**{k: batch[k] for k in ("nodes", "edges", "graph")}, num_graphs=3)
    assert term[1] == 3
    torch.testing.assert_close(term[0], F.cross_entropy(logits, batch["target"], reduction="sum"))
    assert (logits[[0, 2]] == 0).all()


@pytest.mark.parametrize("levels", [3, 50, 10_000], ids="{} different scores".format)
@pytest.mark.parametrize("seed", range(3))
def test_the_ranking_metrics_are_scikit_learn_s_also_where_scores_are_equal(seed, levels):
    random = np.random.default_rng(seed)
    target = random.integers(0, 2, 200)
    scores = (random.normal(size=200) + target).round(4) * levels // 10
    pair = torch.tensor(scores), torch.tensor(target)
    assert roc_auc(*pair) == pytest.approx(roc_auc_score(target, scores), abs=1e-12)
    assert average_precision(*pair) == pytest.approx(average_precision_score(target, scores), abs=1e-12)


def test_ranking_one_kind_alone_is_no_number():
    assert np.isnan(roc_auc(torch.ones(3), torch.ones(3)))
    assert np.isnan(average_precision(torch.ones(3), torch.zeros(3)))


@pytest.mark.parametrize("batch_size", [5, 1000])
def test_the_auc_of_a_run_is_that_of_all_its_pairs(batch_size):
    data = DATA["links"]()
    trainer = graph_trainer(data, batch_size=batch_size)
    trainer.fit()
    batch = whole(data.test)
    with torch.no_grad():
        first, second = trainer.model(batch["nodes"], batch["edges"])[batch["pairs"]]
    scores = (first * second).sum(-1)
    metrics = trainer.evaluate()
    assert metrics["auc"] == pytest.approx(roc_auc_score(batch["target"], scores), abs=1e-6)
    assert metrics["average_precision"] == pytest.approx(average_precision_score(batch["target"], scores), abs=1e-6)
    expected = F.binary_cross_entropy_with_logits(scores, batch["target"].float())
    assert metrics["loss"] == pytest.approx(float(expected), rel=1e-5)


def test_scores_that_are_exactly_zero_are_kept():
    data = DATA["links"]()
    objective = LinkPrediction(NoOptions(), data.spec)
    samples = [(-1, index) for index in range(4)]
    ctx = Context(0, Rows(0, "evaluate/", samples, torch.device("cpu")), training=False)

    def silent(nodes, edges):
        return torch.zeros(len(nodes), 3)

    totals = objective.evaluate({"model": silent}, data.test.fetch(range(4), None), ctx)
    assert objective.summarize(
        {name: pair for name, pair in totals.items() if name == "pairs"}
        | {"loss": (torch.tensor(4.0), torch.tensor(8.0))}
    ) == {"loss": 0.5, "auc": 0.5, "average_precision": 0.5}


def test_what_is_learnt_follows_from_the_data():
    def chosen(*keys):
        return suited("graph-ml", Spec(keys=("nodes", "edges", *keys), num_classes=2))

    assert chosen("asked", "target") == chosen("target") == "node_classification"
    assert chosen("graph", "target") == "graph_classification"
    assert chosen("pairs", "target") == "link_prediction"
    for name in ("node_classification", "graph_classification", "link_prediction"):
        assert OBJECTIVES.find(name).name == name


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("node_classification", ("image", "target"), "needs nodes, edges, but the data give image, target"),
        ("node_classification", ("nodes", "edges", "graph", "target"), "set objective.name=graph_classification"),
        ("graph_classification", ("nodes", "edges", "target"), "needs graph"),
        ("link_prediction", ("nodes", "edges", "asked", "target"), "data.links=true"),
        ("classification", ("nodes", "edges", "asked", "target"), "set objective.name=node_classification"),
        ("classification", ("nodes", "edges", "graph", "target"), "set objective.name=graph_classification"),
    ],
)
def test_data_that_do_not_suit_are_refused(name, keys, message):
    with pytest.raises(ValueError, match=message):
        OBJECTIVES.find(name)(NoOptions(), Spec(keys=keys, num_classes=2, in_features=3))
    with pytest.raises(ValueError, match="two classes or more"):
        OBJECTIVES.find("node_classification")(NoOptions(), Spec(keys=("nodes", "edges", "target"), num_classes=1))


def test_too_few_logits_are_named():
    data = DATA["nodes"]()
    with pytest.raises(ValueError, match=r"shape \(8, 3\) .* set model.num_classes=4"):
        graph_trainer(data, Layers(80, 3)).fit()


def test_targets_that_do_not_belong_to_the_logits_ask_for_another_objective():
    spec = Spec(keys=("nodes", "edges", "graph", "target"), num_classes=4)
    with pytest.raises(ValueError, match=r"\(12, 4\) for targets of shape \(3,\), .* set the objective.name that fits"):
        check_logits(torch.zeros(12, 4), torch.zeros(3, dtype=torch.int64), spec)


def test_a_model_of_images_and_data_of_graphs_name_each_other():
    with pytest.raises(ConfigError, match="takes 'image', which the data do not give; they give nodes, edges"):
        zoo.Trainer(zoo.RunConfig.of({"model": "lenet", "data": "karate_club", "trainer": {"steps": 1}}))
    config = zoo.RunConfig.of({"objective": "classification", "trainer": {"steps": 1}})
    with pytest.raises(ConfigError, match="takes 'nodes', which the data do not give; they give image"):
        zoo.Trainer(config, Layers(64, 10), read("digits"))


@each_kind
def test_a_resumed_run_on_graphs_is_the_run_that_never_stopped(tmp_path, kind):
    data = DATA[kind]()

    def run(name, workers=0):
        model = Layers(data.spec.in_features, data.spec.num_classes or 6, dropout=0.3)
        given = {"steps": 13, "checkpoint_every": 1, "ema": 0.9}
        return graph_trainer(data, model, tmp_path / name, batch_size=6, workers=workers, **given)

    run("whole", workers=1).fit()
    with pytest.raises(Crash):
        crash_at(run("cut"), 7).fit()
    run("cut").fit(resume=True)
    before, after = final(tmp_path / "whole"), final(tmp_path / "cut")
    assert {name for name in before if not torch.equal(before[name], after[name])} == set()


@each_kind
def test_training_data_of_graphs_are_learnt(kind):
    data = DATA[kind]()
    mix = "sum" if kind == "graphs" else "mean"
    model = Layers(data.spec.in_features, data.spec.num_classes or 6, mix=mix)
    trainer = graph_trainer(data, model, batch_size=20, steps=120)
    before = trainer.evaluate("train")
    trainer.fit()
    assert trainer.evaluate("train")["loss"] < 0.9 * before["loss"]
