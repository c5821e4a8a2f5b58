"""The recipes of graph networks reach what they promise, and the commands know their runs."""

import json
import statistics
from pathlib import Path

import pytest

import zoo

CONFIGS = Path(__file__).parents[1] / "configs"


def measured(recipe, *overrides):
    path = CONFIGS / recipe.partition("-")[0] / f"{recipe}.yaml"
    return zoo.Trainer(zoo.RunConfig.read(path, list(overrides)), quiet=True).fit().metrics


@pytest.mark.slow
def test_a_gcn_finds_the_sides_of_the_karate_club_from_its_two_leaders():
    found = [measured("gcn-karate_club", f"trainer.seed={seed}")["accuracy"] for seed in range(20)]
    assert statistics.mean(found) >= 0.93


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_gcn_finds_communities_from_one_label_in_twenty(seed):
    overrides = [f"{key}={seed}" for key in ("trainer.seed", "data.graph_seed", "data.subset_seed")]
    assert measured("gcn-block_model", *overrides)["accuracy"] >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "metric", "least"),
    [
        ("gat-karate_club", "accuracy", 0.84),
        ("gat-block_model", "auc", 0.76),
        ("gin-degree_classes", "accuracy", 0.99),
        ("graphsage-block_model", "accuracy", 0.98),
    ],
)
def test_a_recipe_reaches_what_its_header_says(recipe, metric, least):
    assert measured(recipe)[metric] >= least


def test_a_mean_over_neighbours_cannot_count_them():
    """So the classes of `degree_classes` are told by the sum alone, and by nothing else that leaks."""
    found = measured(
        "gin-degree_classes", "model={name: graphsage, dim: 16, readout: mean}", "trainer.steps=20", "data.held_out=128"
    )
    assert found["accuracy"] < 0.35


def test_a_gcn_is_refused_where_neighbours_are_sampled():
    with pytest.raises(ValueError, match=r"GCN tells 4 neighbours from 8 .* such as graphsage"):
        measured("gcn-block_model", "data.neighbours=[10,10]")
    with pytest.raises(ValueError, match="GIN tells 4 neighbours from 8"):
        measured("gcn-block_model", "data.neighbours=[10,10]", "model={name: gin, depth: 2}")


@pytest.mark.parametrize("name", ["gat", "graphsage"])
def test_a_model_of_means_may_sample_as_many_hops_as_it_has_layers(name):
    overrides = ["trainer.steps=1", f"model={{name: {name}, depth: 2, dim: 16}}"]
    assert measured("gcn-block_model", *overrides, "data.neighbours=[3,3]")["accuracy"] > 0
    with pytest.raises(ValueError, match=r"looks further than the 1 hops of data.neighbours=\[3\]"):
        measured("gcn-block_model", *overrides, "data.neighbours=[3]")


def test_whole_graphs_ask_for_a_readout():
    with pytest.raises(ValueError, match="GIN answers for nodes, and the data ask about whole graphs"):
        measured("gin-degree_classes", "model.readout=null", "trainer.steps=1")


RUNS = {
    "nodes": ("gcn-karate_club", "accuracy", "Where it is right and wrong"),
    "graphs": ("gin-degree_classes", "accuracy", "Where it is right and wrong"),
    "links": ("gat-block_model", "auc", "Training"),
}


@pytest.mark.parametrize("kind", RUNS)
def test_the_commands_know_runs_on_graphs(kind, run, tmp_path):
    recipe, headline, shown = RUNS[kind]
    path, out = CONFIGS / recipe.partition("-")[0] / f"{recipe}.yaml", str(tmp_path / "run")
    few = ["data.samples=64", "data.held_out=32"] if kind == "graphs" else []
    run("train", str(path), "--out", out, "trainer.steps=3", "trainer.device=cpu", *few)
    found = json.loads(run("evaluate", out, "--json"))
    last = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[-1])
    assert found[headline] == pytest.approx(last[headline], abs=1e-6)
    page = (tmp_path / "run" / "report.html").read_text()
    assert shown in page
    assert f"{headline} on the test part" in page


def test_a_graph_network_is_trained_further_on_another_graph(run, no_report, tmp_path):
    path, first, second = CONFIGS / "gcn" / "gcn-block_model.yaml", str(tmp_path / "first"), str(tmp_path / "second")
    run("train", str(path), "--out", first, "trainer.steps=60", "trainer.device=cpu")
    run("finetune", first, "--data", "block_model", "data.subset_seed=1", "trainer.steps=2", "--out", second)
    assert json.loads(run("evaluate", second, "--json"))["accuracy"] > 0.9


@pytest.mark.parametrize(
    ("model", "data", "goal"),
    [
        ("gcn", "karate_club", "node_classification"),
        ("gin", "degree_classes", "graph_classification"),
    ],
)
def test_a_created_config_names_what_is_learnt_from_graphs(model, data, goal, run):
    text = run("create-config", model, "--data", data)
    assert f"name: {goal}" in text


def test_a_created_config_of_links_learns_links(run):
    assert "name: link_prediction" in run("create-config", "graphsage", "--data", "karate_club", "data.links=true")
