"""Pickles of numbers are read, and nothing that a pickle may say is run."""

import io
import os
import pickle
import pickletools
import time
from collections import defaultdict

import numpy as np
import pytest
from scipy import sparse

from zoo.training.data.number_pickles import read_numbers


@pytest.mark.parametrize("protocol", range(5))
def test_numbers_are_read_as_they_were_pickled(tmp_path, protocol):
    random = np.random.default_rng(0)
    matrix = sparse.csr_matrix(random.integers(0, 3, (7, 5)).astype(np.float32))
    for value, expected in (
        (matrix, matrix.toarray()),
        (np.asfortranarray(random.normal(size=(4, 3))), None),
        (np.arange(6, dtype=">i4").reshape(2, 3), None),
        (np.array([True, False]), None),
        (np.empty((0, 3), np.float32), None),
    ):
        (tmp_path / "x").write_bytes(pickle.dumps(value, protocol=protocol))
        np.testing.assert_array_equal(read_numbers(tmp_path / "x"), value if expected is None else expected)
    graph = defaultdict(list, {0: [1, 2], 1: [0]})
    (tmp_path / "x").write_bytes(pickle.dumps(graph, protocol=protocol))
    assert read_numbers(tmp_path / "x") == graph


def test_what_python_2_wrote_is_read(tmp_path):
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(I2\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\n"
        b"tR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00\\xc0'\ntb."
    )
    (tmp_path / "x").write_bytes(array)
    assert read_numbers(tmp_path / "x").tolist() == [1.0, -2.0]
    (tmp_path / "x").write_bytes(b"ccollections\ndefaultdict\n(c__builtin__\nlist\ntRI0\n(lI1\naI2\nas.")
    assert read_numbers(tmp_path / "x") == {0: [1, 2]}
    matrix = (
        b"ccopy_reg\n_reconstructor\n(cscipy.sparse.csr\ncsr_matrix\nc__builtin__\nobject\nNtR(dS'_shape'\n(I1\nI2\nts"
    )
    for name, kind, raw in (
        (b"data", b"f4", b"\\x00\\x00\\x80?"),
        (b"indices", b"i4", b"\\x01\\x00\\x00\\x00"),
        (b"indptr", b"i4", b"\\x00\\x00\\x00\\x00\\x01\\x00\\x00\\x00"),
    ):
        size = raw.count(b"\\x") // 4 or 1
        matrix += b"S'" + name + b"'\n" + array[: array.index(b"(I1\n")] + b"(I1\n(I" + str(size).encode() + b"\n"
        matrix += (
            b"tcnumpy\ndtype\n(S'" + kind + b"'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'" + raw + b"'\ntbs"
        )
    (tmp_path / "x").write_bytes(matrix + b"b.")
    assert read_numbers(tmp_path / "x").tolist() == [[0.0, 1.0]]


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def malicious(folder):
    mark = str(folder / "mark")
    yield "system", pickle.dumps(Evil(os.system, f"touch {mark}"))
    yield "eval", pickle.dumps(Evil(eval, f"open({mark!r}, 'w')"))
    yield "open", pickle.dumps(Evil(open, mark, "w"))
    yield "in a list", pickle.dumps([np.arange(3), Evil(os.system, f"touch {mark}")])
    yield "in a dict", pickle.dumps({0: [Evil(os.mkdir, mark)]})
    yield "numpy's own loader", pickle.dumps(Evil(np.load, mark))
    yield "getattr", pickle.dumps(Evil(getattr, list, "__class__"))
    yield "an array of objects", pickle.dumps(np.array([Evil(os.mkdir, mark), 1], dtype=object))
    yield "dotted", b"\x80\x04\x8c\x08builtins\x8c\x0elist.__class__\x93."
    yield "by an attribute of a stand-in", b"\x80\x04\x8c\x05numpy\x8c\x13ndarray.__init__.__globals__\x93."
    yield "registered copier", b"\x80\x02\x82\x01."
    yield "persistent", b"\x80\x02U\x01aQ."


@pytest.mark.parametrize("number", range(12))
def test_a_pickle_that_runs_something_is_refused_and_has_run_nothing(tmp_path, number):
    _, text = list(malicious(tmp_path))[number]
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(ValueError, match=r"x: (the pickle|not a pickle)"):
        read_numbers(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_python_s_own_reader_would_have_run_it(tmp_path):
    texts = dict(malicious(tmp_path))
    pickle.loads(texts["in a dict"])
    assert (tmp_path / "mark").is_dir()
    assert len(texts) == 12


def _state(value, **changes):
    """A CSR matrix's pickle with parts of it replaced."""
    for name, part in changes.items():
        value.__dict__[name] = part
    return pickle.dumps(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"indices": np.array([7], np.int32)},
        {"indices": np.array([-1], np.int32)},
        {"indptr": np.array([0, 9, 1], np.int32)},
        {"indptr": np.array([0, 1], np.int32)},
        {"data": np.ones(4)},
        {"_shape": (2, 10**12)},
        {"_shape": (10**9, 3)},
    ],
    ids=str,
)
def test_a_matrix_that_does_not_add_up_is_refused(tmp_path, changes):
    (tmp_path / "x").write_bytes(_state(sparse.csr_matrix(([1.0], ([0], [1])), shape=(2, 3)), **changes))
    with pytest.raises(ValueError, match="x: the pickle holds a matrix"):
        read_numbers(tmp_path / "x")


@pytest.mark.parametrize("text", [b"", b"hello", b"\x80\x02", b"\x80\x02.", pickle.dumps(np.arange(9))[:-20]], ids=str)
def test_a_damaged_pickle_is_named(tmp_path, text):
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(ValueError, match="x: not a pickle of numbers"):
        read_numbers(tmp_path / "x")


@pytest.mark.parametrize(
    "text",
    [
        b"]r\xff\xff\xff\x0f.",
        b"\x80\x02]r\xff\xff\xff\x0f.",
        b"]p268435455\n.",
        b"S'\x80'\n]r\xff\xff\xff\x0f.",
        b"]q\x40.",
    ],
    ids=str,
)
def test_a_place_far_beyond_the_file_is_refused_before_it_is_laid_out(tmp_path, text):
    (tmp_path / "x").write_bytes(text)
    start = time.perf_counter()
    with pytest.raises(ValueError, match=rf"x: the pickle of {len(text)} bytes remembers something as number"):
        read_numbers(tmp_path / "x")
    assert time.perf_counter() - start < 0.2


def test_an_array_whose_bytes_are_too_few_for_its_shape_is_refused(tmp_path):
    text = pickle.dumps(np.arange(6, dtype=np.int64), protocol=2).replace(b"K\x06\x85", b"K\x07\x85")
    assert "BININT1    7" in _listing(text)
    (tmp_path / "x").write_bytes(text)
    with pytest.raises(ValueError, match=r"an array of int64 and shape \(7,\) in 48 bytes"):
        read_numbers(tmp_path / "x")


def _listing(text):
    out = io.StringIO()
    pickletools.dis(text, out)
    return out.getvalue()
