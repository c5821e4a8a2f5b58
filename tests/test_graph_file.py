"""A graph of a user's own, in one NPZ file."""

import io
import zipfile

import numpy as np
import pytest
from samples import read, whole

from zoo.storage import DamagedFile
from zoo.training.data import IGNORE
from zoo.training.data.locate import locate


def arrays(**changes):
    random = np.random.default_rng(0)
    target = np.arange(30) % 3
    target[-1] = IGNORE
    given = {"nodes": random.normal(size=(30, 4)), "edges": random.integers(0, 30, (2, 90)), "target": target}
    return {name: values for name, values in {**given, **changes}.items() if values is not None}


def written(folder, **changes):
    np.savez(folder / "graph.npz", **arrays(**changes))
    return str(folder / "graph.npz")


def test_a_graph_is_read_as_it_was_written(tmp_path):
    path, expected = written(tmp_path), arrays()
    assert locate(path)["name"] == "graph_file"
    data = read("graph_file", path=path, directed=True, val_fraction=0.25)
    batch = whole(data.train)
    np.testing.assert_array_equal(batch["nodes"].numpy(), expected["nodes"].astype(np.float32))
    np.testing.assert_array_equal(batch["edges"].numpy(), expected["edges"])
    asked = [whole(part) for part in (data.train, data.val, data.test)]
    assert sorted(node for part in asked for node in part["asked"].tolist()) == list(range(29))
    assert all((part["target"] == part["asked"] % 3).all() for part in asked)
    assert (data.spec.in_features, data.spec.num_classes) == (4, 3)


def test_edges_go_both_ways_unless_directions_are_asked_for(tmp_path):
    edges = whole(read("graph_file", path=written(tmp_path)).train)["edges"].T.tolist()
    pairs = {(a, b) for a, b in arrays()["edges"].T.tolist() if a != b}
    assert {tuple(edge) for edge in edges} == pairs | {(b, a) for a, b in pairs}
    assert len(read("graph_file", path=written(tmp_path), links=True).test) > 0
    with pytest.raises(ValueError, match=r"data.directed=false"):
        read("graph_file", path=written(tmp_path), links=True, directed=True)


def test_the_file_s_own_parts_win(tmp_path):
    data = read("graph_file", path=written(tmp_path, train=[3, 1], val=[5], test=[7, 8]))
    assert [whole(part)["asked"].tolist() for part in (data.train, data.val, data.test)] == [[1, 3], [5], [7, 8]]
    data = read("graph_file", path=written(tmp_path, train=[3, 1]))
    assert whole(data.test)["asked"].tolist() == [0, 2, *range(4, 29)]


def test_parts_that_the_file_does_not_have_are_made_of_the_other_nodes(tmp_path):
    data = read("graph_file", path=written(tmp_path, test=[7, 8], val=[5]))
    assert [whole(part)["asked"].tolist() for part in (data.val, data.test)] == [[5], [7, 8]]
    assert whole(data.train)["asked"].tolist() == sorted({*range(29)} - {5, 7, 8})
    data = read("graph_file", path=written(tmp_path, val=[5, 6]), test_fraction=0.5)
    asked = [whole(part)["asked"].tolist() for part in (data.train, data.val, data.test)]
    assert asked[1] == [5, 6]
    assert sorted(node for part in asked for node in part) == list(range(29))
    assert [len(part) for part in asked] == [14, 2, 13]


def test_links_need_no_classes(tmp_path):
    for target in (None, np.full(30, IGNORE), np.zeros(3)):
        data = read("graph_file", path=written(tmp_path, target=target), links=True)
        assert "pairs" in data.spec.keys


def test_without_a_share_or_a_part_for_the_test_the_remedy_is_said(tmp_path):
    with pytest.raises(ValueError, match=r"no node is left for test; set data.test_fraction above 0"):
        read("graph_file", path=written(tmp_path), test_fraction=0.0)
    with pytest.raises(ValueError, match="no node is left for train"):
        read("graph_file", path=written(tmp_path, test=np.arange(29)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"edges": np.array([[0], [30]])}, "edges must be whole numbers from 0 to 29, got 0 to 30"),
        ({"edges": np.array([[-1], [3]])}, "edges must be whole numbers from 0 to 29, got -1 to 3"),
        ({"edges": np.array([[0.5], [3.0]])}, "edges must be whole numbers from 0 to 29, got float64"),
        ({"edges": np.zeros((3, 4), int)}, r"edges \(3, 4\)"),
        ({"edges": np.array(3)}, r"edges \(\)"),
        ({"nodes": np.array(3.0)}, r"nodes \(\) and edges"),
        ({"target": np.array(3)}, r"target \(\) is not \(30,\)"),
        ({"target": np.full(30, IGNORE)}, "no node has a class"),
        ({"nodes": np.full((30, 2), 1e39)}, "no finite numbers in float32"),
        ({"train": [1, 4], "test": [3, 4]}, "node 4 is in train and in test"),
        ({"train": [1], "val": [2], "test": [2]}, "node 2 is in val and in test"),
        ({"target": np.zeros(29, int)}, r"target \(29,\)"),
        ({"target": np.full(30, 10**9)}, "target must be whole numbers"),
        ({"nodes": np.full((30, 2), np.nan)}, "no finite numbers"),
        ({"nodes": np.array(["a"] * 30)[:, None]}, "no finite numbers"),
        ({"target": None}, "an array named 'target' is needed, beside nodes, edges"),
        ({"train": np.arange(30) < 3}, "np.flatnonzero"),
        ({"train": np.array([29])}, "train has node 29, whose target is -100"),
        ({"train": np.array([30])}, "train must be whole numbers from 0 to 29"),
        ({"edges": np.array([[None], [None]])}, "not an NPZ file of numbers"),
    ],
    ids=str,
)
def test_files_that_do_not_fit_are_named(tmp_path, changes, message):
    with pytest.raises(ValueError, match=rf"graph.npz: .*{message}"):
        read("graph_file", path=written(tmp_path, **changes))


def test_a_table_in_an_npz_file_stays_a_table(tmp_path):
    np.savez(tmp_path / "table.npz", features=np.ones((3, 2)), target=np.arange(3))
    assert locate(str(tmp_path / "table.npz"))["name"] == "tabular"
    (tmp_path / "broken.npz").write_bytes(b"nothing")
    assert locate(str(tmp_path / "broken.npz"))["name"] == "tabular"
    with pytest.raises(OSError, match=r"gone\.npz"):
        read("graph_file", path=str(tmp_path / "gone.npz"))
    with pytest.raises(ValueError, match=r"data\.path is missing"):
        read("graph_file")


def npz_bytes(compressed=False):
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **arrays())
    return bytearray(file.getvalue())


def cut():
    return npz_bytes()[:700]


def bad_crc():
    raw = npz_bytes()
    raw[raw.index(b"\n", raw.index(b"NUMPY")) + 9] ^= 1
    return raw


def bad_deflate():
    raw = npz_bytes(compressed=True)
    raw[raw.index(b"nodes.npy") + 40] ^= 255
    return raw


def encrypted():
    raw = npz_bytes()
    raw[raw.index(b"PK\1\2") + 8] |= 1
    raw[6] |= 1
    return raw


def unknown_compression():
    raw = npz_bytes()
    raw[raw.index(b"PK\1\2") + 10] = 99
    raw[8] = 99
    return raw


def strange_header(shape):
    file, header = io.BytesIO(), f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}".ljust(117) + "\n"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("nodes.npy", b"\x93NUMPY\x01\x00v\x00" + header.encode() + bytes(80))
        archive.writestr("edges.npy", b"")
    return file.getvalue()


def nameless():
    file = io.BytesIO()
    np.save(file, np.ones(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (cut, DamagedFile),
        (bad_crc, DamagedFile),
        (bad_deflate, DamagedFile),
        (encrypted, ValueError),
        (unknown_compression, ValueError),
        (lambda: strange_header((10**13,)), ValueError),
        (lambda: strange_header((-3, 2)), ValueError),
        (lambda: strange_header("x"), ValueError),
        (nameless, ValueError),
    ],
    ids=["cut", "crc", "deflate", "encrypted", "compression", "huge", "negative", "header", "nameless"],
)
def test_damage_is_told_from_files_that_are_something_else(tmp_path, make, kind):
    path = tmp_path / "graph.npz"
    path.write_bytes(make())
    with pytest.raises(kind, match=r"graph\.npz: .*NPZ file") as caught:
        read("graph_file", path=str(path))
    assert "\n" not in str(caught.value)
