"""Graphs in files of users: both forms of citation graphs, and many graphs in a folder; nothing in them is trusted."""

import pickle
from collections import defaultdict

import numpy as np
import pytest
import torch
from samples import read, whole
from scipy import sparse

from zoo.training.data import IGNORE
from zoo.training.data.locate import locate

KNOWN, TESTED, CLASSES, WORDS = 40, 10, 3, 6


def planetoid_parts(seed=0):
    """As the authors wrote them: 12 labelled of 40 papers, then 10 for the test, one number being left out."""
    random = np.random.default_rng(seed)
    features = random.integers(0, 2, (KNOWN + TESTED, WORDS)).astype(np.float32)
    features[0] = 0
    classes = np.eye(CLASSES, dtype=np.int32)[np.arange(KNOWN + TESTED) % CLASSES]
    order = random.permutation(np.delete(np.arange(KNOWN, KNOWN + TESTED + 1), 4))
    graph = defaultdict(list)
    for node in range(KNOWN + TESTED + 1):
        graph[node] = [int(other) for other in random.integers(0, KNOWN + TESTED + 1, 3)]
    return {
        "x": sparse.csr_matrix(features[:12]),
        "y": classes[:12],
        "allx": sparse.csr_matrix(features[:KNOWN]),
        "ally": classes[:KNOWN],
        "tx": sparse.csr_matrix(features[KNOWN:]),
        "ty": classes[KNOWN:],
        "graph": graph,
        "test.index": "\n".join(map(str, order)),
    }


def write_planetoid(folder, parts, protocol=2, name="cora"):
    for part, value in parts.items():
        text = value.encode() if isinstance(value, str) else pickle.dumps(value, protocol=protocol)
        (folder / f"ind.{name}.{part}").write_bytes(text)
    return str(folder)


def test_planetoid_s_files_give_its_own_division(tmp_path):
    parts = planetoid_parts()
    data = read("citation", path=write_planetoid(tmp_path, parts), normalize=False)
    order = [int(line) for line in parts["test.index"].split()]
    train, val, test = (whole(part) for part in (data.train, data.val, data.test))
    assert train["asked"].tolist() == list(range(12))
    assert val["asked"].tolist() == list(range(12, KNOWN))
    assert test["asked"].tolist() == sorted(order)
    nodes = train["nodes"].numpy()
    np.testing.assert_array_equal(nodes[:KNOWN], parts["allx"].toarray())
    np.testing.assert_array_equal(nodes[order], parts["tx"].toarray())
    assert (nodes[44] == 0).all()
    assert data.train.graph.target[44] == IGNORE
    for batch in (train, val, test):
        for node, target in zip(batch["asked"].tolist(), batch["target"].tolist(), strict=True):
            place = order.index(node) + KNOWN if node in order else node
            assert target == place % CLASSES
    edges = {tuple(edge) for edge in train["edges"].T.tolist()}
    pairs = {(a, b) for a, others in parts["graph"].items() for b in others if a != b}
    assert edges == pairs | {(b, a) for a, b in pairs}
    assert (data.spec.in_features, data.spec.num_classes) == (WORDS, CLASSES)


def test_features_are_divided_by_their_sum(tmp_path):
    nodes = whole(read("citation", path=write_planetoid(tmp_path, planetoid_parts())).train)["nodes"]
    sums = nodes.sum(1)
    assert bool((((sums - 1).abs() < 1e-6) | (sums == 0)).all())
    assert sums[0] == 0


def with_row(rows, row, value):
    return np.where(np.arange(len(rows))[:, None] == row, value, rows)


def changed(**changes):
    return {**planetoid_parts(), **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ally": np.eye(3)[:1]}, "do not belong together"),
        ({"tx": sparse.csr_matrix(np.ones((TESTED, WORDS + 1)))}, "do not belong together"),
        ({"test.index": "\n".join(["41"] * TESTED)}, "test.index: the test nodes must be different"),
        ({"test.index": "\n".join(map(str, range(TESTED)))}, "from 40, after the others"),
        ({"test.index": "\n".join(map(str, range(10**9, 10**9 + TESTED)))}, "to 50, the last in ind.cora.graph"),
        ({"test.index": "forty"}, "test.index, line 1: whole numbers are expected"),
        ({"graph": {0: [99]}}, "graph: '99' is no node; they are numbered from 0 to 0"),
        ({"graph": {0: ["a"]}}, "graph: 'a' is no node"),
        ({"graph": [1]}, "graph: a dict is expected"),
        ({"x": 1, "y": [1]}, "y: a matrix is expected"),
        ({"graph": {0: [10**5000]}}, "graph: '0x[0-9a-f]+' is no node"),
        ({"graph": {0: [[0]]}}, "graph: 'a list' is no node"),
        ({"test.index": ""}, "test.index: the file is empty"),
        ({"test.index": "41\n\nx"}, "test.index, line 3: whole numbers"),
        ({"ally": with_row(planetoid_parts()["ally"], 20, 0)}, "ally, row 20: node 20 needs one class"),
        ({"ally": with_row(planetoid_parts()["ally"], 39, 1)}, "ally, row 39: node 39 needs one class"),
        ({"ally": with_row(planetoid_parts()["ally"], 39, 0.5)}, "ally, row 39: node 39 needs one class"),
        ({"ty": with_row(planetoid_parts()["ty"], 0, 0)}, r"ty, row 0: node \d+ needs one class"),
        ({"y": np.roll(planetoid_parts()["y"], 1, axis=0)}, "ind.cora.y: node 0 has another class than in ind.cora.al"),
        ({"tx": sparse.csr_matrix(np.full((TESTED, WORDS), 1e39))}, "ind.cora.tx has values .* in float32"),
        ({"allx": np.full((KNOWN, WORDS), 1e39)}, "ind.cora.allx has values .* in float32"),
        ({"allx": np.full((KNOWN, WORDS), -1.0)}, "data.normalize=false"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_planetoid_s_files_that_do_not_fit_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        read("citation", path=write_planetoid(tmp_path, changed(**changes)))


def test_a_missing_file_is_named(tmp_path):
    path = write_planetoid(tmp_path, planetoid_parts())
    (tmp_path / "ind.cora.ty").unlink()
    with pytest.raises(OSError, match=r"ind\.cora\.ty"):
        read("citation", path=path)


def write_linqs(folder, papers=60, name="cora"):
    random = np.random.default_rng(0)
    subjects = ["Theory", "Genetic_Algorithms", "Neural_Networks"]
    rows = [
        "\t".join([f"p{i}", *map(str, random.integers(0, 2, 5)), subjects[i % 3]]) for i in random.permutation(papers)
    ]
    cites = [f"p{a}\tp{b}" for a, b in random.integers(0, papers, (200, 2))]
    (folder / f"{name}.content").write_text("\n".join(rows) + "\n")
    (folder / f"{name}.cites").write_text("\n".join([*cites, "p0 elsewhere"]) + "\n")
    return {"path": str(folder), "per_class": 4, "val_nodes": 10, "test_nodes": 30}


def test_linqs_files_are_divided_by_a_seed(tmp_path):
    options = write_linqs(tmp_path)
    data, again, other = (read("citation", **options, subset_seed=seed) for seed in (0, 0, 1))
    asked = [whole(part)["asked"].tolist() for part in (data.train, data.val, data.test)]
    assert list(map(len, asked)) == [12, 10, 30]
    assert len({node for part in asked for node in part}) == 52
    assert np.bincount(whole(data.train)["target"]).tolist() == [4, 4, 4]
    assert whole(again.test)["asked"].tolist() == asked[2]
    assert whole(other.test)["asked"].tolist() != asked[2]
    assert data.spec.labels == ("Genetic_Algorithms", "Neural_Networks", "Theory")


def test_linqs_papers_have_their_own_words_subjects_and_citations(tmp_path):
    data = read("citation", **write_linqs(tmp_path), normalize=False)
    lines = [line.split("\t") for line in (tmp_path / "cora.content").read_text().splitlines()]
    batch = whole(data.test)
    np.testing.assert_array_equal(batch["nodes"].numpy(), np.array([line[1:-1] for line in lines], np.float32))
    for node, target in zip(batch["asked"], batch["target"], strict=True):
        assert data.spec.labels[target] == lines[node][-1]
    names = [line[0] for line in lines]
    found = {(names[a], names[b]) for a, b in batch["edges"].T.tolist()}
    cited = {tuple(line.split("\t")) for line in (tmp_path / "cora.cites").read_text().splitlines() if "\t" in line}
    assert found == {pair for a, b in cited if a != b for pair in ((a, b), (b, a))}


def test_files_with_a_mark_of_their_byte_order_are_read(tmp_path):
    options = write_linqs(tmp_path)
    before = whole(read("citation", **options).test)
    for path in tmp_path.iterdir():
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    after = whole(read("citation", **options).test)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_bytes_that_are_no_text_are_named_by_their_line(tmp_path):
    for name, options in (("citation", write_linqs(tmp_path)), ("tu", {"path": write_tu(tmp_path)[0]})):
        path = tmp_path / ("cora.cites" if name == "citation" else "MUTAG_A.txt")
        path.write_bytes(b"1, 2\n\xff\n")
        with pytest.raises(ValueError, match=rf"{path.name}, line 2: not a text in UTF-8"):
            read(name, **options)


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("content", lambda text: text.replace("\t1\t", "\t", 1), "content, line [0-9]+: .* words where line 1 has"),
        ("content", lambda text: text + text.splitlines()[0], "stands there twice"),
        ("content", lambda text: text.replace("\t1\t", "\tone\t", 1), "features must be finite numbers"),
        (
            "content",
            lambda text: text.replace("\t1\t", "\tnan\t", 1),
            r"content, line \d+ has values that are no finite",
        ),
        ("content", lambda text: "", "content, line 1"),
        ("content", lambda text: "\n" + text + "p\n", "content, line 62: 1 words where line 2 has 7"),
        ("content", lambda text: text.replace("\t1\t", "\t1e39\t", 1), r"content, line \d+ has values .* float32"),
        ("cites", lambda text: text + "p1 p2 p3\n", "cites, line 202: two papers' names are expected, not 3 words"),
        ("cites", lambda text: text + "p1 nobody\n" * 9, "10 of 210 citations name papers .* such as 'elsewhere'"),
    ],
    ids=["ragged", "twice", "no number", "nan", "empty", "blank", "large", "three", "dangling"],
)
def test_linqs_files_that_do_not_fit_are_named(tmp_path, file, change, message):
    options, path = write_linqs(tmp_path), tmp_path / f"cora.{file}"
    path.write_text(change(path.read_text()))
    with pytest.raises(ValueError, match=message):
        read("citation", **options)


def test_too_few_papers_for_the_division_are_said(tmp_path):
    options = write_linqs(tmp_path)
    with pytest.raises(ValueError, match="leave none for the test"):
        read("citation", **{**options, "val_nodes": 500})
    with pytest.raises(ValueError, match="per_class 99 is more than"):
        read("citation", **{**options, "per_class": 99})


def test_a_folder_of_several_citation_graphs_asks_which(tmp_path):
    write_planetoid(tmp_path, planetoid_parts(), name="pubmed")
    write_planetoid(tmp_path, planetoid_parts(1), name="cora")
    with pytest.raises(ValueError, match=r"there is cora, pubmed; name one by data.dataset"):
        read("citation", path=str(tmp_path))
    assert len(read("citation", path=str(tmp_path), dataset="cora").train) == 12
    with pytest.raises(ValueError, match="is no folder"):
        read("citation")


def write_tu(folder, attributes=True, labels=True, count=30, name="MUTAG"):
    """Graphs of 0 to 6 nodes in a path, the class the parity of their number; the last one has no nodes."""
    sizes = [i % 7 for i in range(count)]
    sizes[-1] = 0
    indicator, edges, first = [], [], 1
    for number, size in enumerate(sizes, start=1):
        indicator += [number] * size
        edges += [pair for i in range(first, first + size - 1) for pair in ((i, i + 1), (i + 1, i))]
        first += size
    files = {
        "A": [f"{a}, {b}" for a, b in edges],
        "graph_indicator": indicator,
        "graph_labels": [1 if i % 2 else -1 for i in range(count)],
        **({"node_labels": [3 + i % 2 for i in range(len(indicator))]} if labels else {}),
        **({"node_attributes": [f"{i / 2}, {-i}" for i in range(len(indicator))]} if attributes else {}),
    }
    for kind, lines in files.items():
        (folder / f"{name}_{kind}.txt").write_text("\n".join(map(str, lines)) + "\n")
    return str(folder), sizes


@pytest.mark.parametrize(("attributes", "labels", "width"), [(1, 1, 4), (1, 0, 2), (0, 1, 2), (0, 0, 1)])
def test_graphs_of_a_folder_are_those_in_the_files(tmp_path, attributes, labels, width):
    path, sizes = write_tu(tmp_path, attributes, labels)
    data = read("tu", path=path, test_fraction=0.2)
    assert (data.spec.in_features, data.spec.num_classes) == (width, 2)
    assert data.spec.labels == ("class -1", "class 1")
    for part in (data.train, data.test):
        for i, number in enumerate(part.chosen):
            batch, first = part.fetch([i], None), sum(sizes[:number])
            own = torch.arange(sizes[number])
            assert batch["target"].tolist() == [number % 2]
            assert batch["nodes"].shape == (sizes[number], width)
            assert {tuple(e) for e in batch["edges"].T.tolist()} == {
                pair for a in own.tolist()[:-1] for pair in ((a, a + 1), (a + 1, a))
            }
            if attributes:
                expected = torch.stack([(own + first) / 2, -(own + first)], dim=1).float()
                assert torch.equal(batch["nodes"][:, :2], expected)
            if labels:
                assert torch.equal(batch["nodes"][:, -2:], torch.eye(2)[(own + first) % 2])
    assert sorted([*data.train.chosen, *data.test.chosen]) == list(range(30))


def test_folds_are_even_in_classes_and_together_everything(tmp_path):
    path, _ = write_tu(tmp_path)
    parts = [read("tu", path=path, folds=5, fold=fold, val_fraction=0.25) for fold in range(5)]
    assert sorted(np.concatenate([data.test.chosen for data in parts])) == list(range(30))
    for data in parts:
        assert np.bincount(data.test.chosen % 2).tolist() == [3, 3]
        assert np.bincount(data.val.chosen % 2).tolist() == [3, 3]
        assert len({*data.train.chosen, *data.val.chosen, *data.test.chosen}) == 30


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("A", lambda text: text + "1, 5000\n", r"A.txt, line \d+: 5000 is no node; they are numbered from 1 to"),
        ("A", lambda text: "0, 1\n" + text, "A.txt, line 1: 0 is no node"),
        ("A", lambda text: text + "1, 2, 3\n", r"A.txt, line \d+: 2 finite numbers are expected, got '1, 2, 3'"),
        ("A", lambda text: "1, 4\n" + text, "A.txt, line 1: the two nodes are of different graphs"),
        ("A", lambda text: text + "1, x\n", "numbers are expected, got '1, x'"),
        ("A", lambda text: text + "1, 1.5\n", r"A.txt, line \d+: whole numbers are expected"),
        ("graph_indicator", lambda text: text.replace("2", "200", 1), "graphs must be numbered from 1 to 30"),
        ("graph_labels", lambda text: "1\n", "graphs must be numbered from 1 to 1"),
        ("node_labels", lambda text: text + "3\n", "node_labels.txt: .* lines for .* nodes"),
        ("node_attributes", lambda text: text.replace("0.0, 0", "nan, 0"), "node_attributes.txt, line 1"),
        ("A", lambda text: "\n\n1, 4\n" + text, "A.txt, line 3: the two nodes are of different graphs"),
        ("graph_indicator", lambda text: "\n200\n" + text, "indicator.txt, line 2: graphs must be .* got 200"),
        ("graph_indicator", lambda text: "", "indicator.txt: the file is empty"),
        ("graph_labels", lambda text: "\n", "labels.txt: the file is empty"),
        ("node_labels", lambda text: "", "node_labels.txt: the file is empty"),
        ("node_attributes", lambda text: text.replace("0.0, 0", "1e39, 0"), "attributes.txt has values .* in float32"),
    ],
    ids=lambda value: value.split(":")[0] if isinstance(value, str) else "",
)
def test_graph_files_that_do_not_fit_are_named(tmp_path, file, change, message):
    path, _ = write_tu(tmp_path)
    changed_file = tmp_path / f"MUTAG_{file}.txt"
    changed_file.write_text(change(changed_file.read_text()))
    with pytest.raises(ValueError, match=message):
        read("tu", path=path)


def test_graphs_may_have_no_edges_and_whole_labels_keep_their_digits(tmp_path):
    path, _ = write_tu(tmp_path)
    (tmp_path / "MUTAG_A.txt").write_text("")
    (tmp_path / "MUTAG_graph_labels.txt").write_text("\n".join(["12345678", "0.5", "3"] * 10))
    data = read("tu", path=path)
    assert data.spec.labels == ("class 0.5", "class 3", "class 12345678")
    assert whole(data.train)["edges"].shape == (2, 0)


def test_graph_files_that_are_missing_are_named(tmp_path):
    path, _ = write_tu(tmp_path)
    (tmp_path / "MUTAG_A.txt").unlink()
    with pytest.raises(OSError, match=r"MUTAG_A\.txt"):
        read("tu", path=path)
    (tmp_path / "MUTAG_graph_indicator.txt").unlink()
    with pytest.raises(ValueError, match=r"no NAME_graph_indicator\.txt"):
        read("tu", path=path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "must be 2 or more"),
        ({"folds": 3, "fold": 3}, "one of them"),
        ({"fold": 1}, "fold 1 says nothing without folds"),
        ({"test_fraction": 1.0}, "not in"),
    ],
    ids=str,
)
def test_divisions_that_cannot_be_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        read("tu", path=".", **options)


def test_a_path_says_which_form_its_graphs_have(tmp_path):
    folders = {name: tmp_path / name for name in ("planetoid", "linqs", "tu")}
    for folder in folders.values():
        folder.mkdir()
    write_planetoid(folders["planetoid"], planetoid_parts())
    write_linqs(folders["linqs"])
    write_tu(folders["tu"])
    assert {name: locate(str(folder))["name"] for name, folder in folders.items()} == {
        "planetoid": "citation",
        "linqs": "citation",
        "tu": "tu",
    }
