"""Stored tensors reach a model by exact name and shape, or after an adaptation that is asked for and said."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file
from toy_zoo import Toy, ToyConfig

import zoo
from zoo.storage import DamagedFile
from zoo.weights.fit import MismatchError, adapt_channels
from zoo.weights.tensors import DTYPES, MAX_HEADER, read_header

pytestmark = pytest.mark.usefixtures("toy")


@pytest.fixture
def model():
    return zoo.create("toy", in_channels=3, num_classes=5)


@pytest.fixture
def write(tmp_path, model):
    """Store the model's tensors with some changed, left out (None) or added; gives the file."""

    def write(**changes):
        tensors = {**model.state_dict(), **{name.replace("__", "."): tensor for name, tensor in changes.items()}}
        path = tmp_path / "file.safetensors"
        save_file({name: tensor.clone() for name, tensor in tensors.items() if tensor is not None}, path)
        return path

    return write


def test_a_file_of_another_writer_gives_the_same_tensors(tmp_path):
    tensors = {str(dtype): torch.arange(6).reshape(2, 3).to(dtype) for dtype in DTYPES.values()}
    tensors |= {"scalar": torch.tensor(3.5), "empty": torch.zeros(0, 3), "bool": torch.tensor([True, False])}
    save_file(tensors, tmp_path / "a.safetensors", metadata={"format": "pt"})
    header = read_header(tmp_path / "a.safetensors")
    assert header.keys() == tensors.keys()
    for name, tensor in tensors.items():
        read = header[name].read()
        assert (read.shape, read.dtype) == (tensor.shape, tensor.dtype) == (header[name].shape, header[name].dtype)
        assert (
            read.tolist() == tensor.tolist() if tensor.dtype.itemsize > 1 else torch.equal(read.float(), tensor.float())
        )


def raw(header, data=b"\0" * 8, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(shape=(2,), offsets=(0, 8), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


FORGED = {
    "empty file": b"",
    "seven bytes": b"\0" * 7,
    "no header": raw(b""),
    "header longer than the file": raw({"a": entry()}, length=10**6),
    "header of 2**64 bytes": raw({"a": entry()}, length=2**64 - 1),
    "header above the limit": raw(json.dumps({"a": entry()}).ljust(MAX_HEADER + 1).encode()),
    "no JSON": raw(b"{not json}"),
    "no UTF-8": raw(b'{"\xff": 1}'),
    "a list": raw([entry()]),
    "nested deeply": raw(b'{"a":' * 10**5),
    "a name twice": raw(b'{"a": %b, "a": %b}' % ((json.dumps(entry()).encode(),) * 2)),
    "no entry": raw({"a": 3}),
    "an entry without shape": raw({"a": {"dtype": "F32", "data_offsets": [0, 8]}}),
    "unknown dtype": raw({"a": entry(dtype="F99")}),
    "negative size": raw({"a": entry(shape=(-2,))}),
    "size that is no number": raw({"a": entry(shape=("2",))}),
    "size that is a truth value": raw({"a": entry(shape=(True, 2))}),
    "fractional size": raw({"a": entry(shape=(2.0,))}),
    "size beyond the bytes": raw({"a": entry(shape=(2**40,))}),
    "a hundred axes": raw({"a": entry(shape=(1,) * 100, offsets=(0, 4))}, b"\0" * 4),
    "ends beyond the file": raw({"a": entry(shape=(3,), offsets=(0, 12))}),
    "begins late": raw({"a": entry(shape=(1,), offsets=(4, 8))}),
    "three offsets": raw({"a": entry(offsets=(0, 8, 9))}),
    "overlap": raw({"a": entry(), "b": entry()}),
    "hole": raw({"a": entry(shape=(1,), offsets=(0, 4)), "b": entry(shape=(1,), offsets=(8, 12))}, b"\0" * 12),
    "bytes left over": raw({"a": entry()}, b"\0" * 9),
}


@pytest.mark.parametrize("case", FORGED)
def test_a_forged_header_is_one_line_that_names_the_file(tmp_path, case):
    path = tmp_path / "forged.safetensors"
    path.write_bytes(FORGED[case])
    with pytest.raises(DamagedFile, match=r"forged\.safetensors: no complete safetensors file: ") as caught:
        read_header(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_shrinks_while_it_is_read_is_damage(write):
    path = write()
    header = read_header(path)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DamagedFile, match="ends within a tensor"):
        [stored.read() for stored in header.values()]


def test_a_file_in_the_model_s_own_names_is_loaded_whole(model, write):
    again = zoo.create("toy", weights=write())
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert (again.load_report.adapted, again.load_report.ignored) == ((), ())
    assert again.load_report.loaded == len(model.state_dict()) - 1  # the tied one counts once
    assert str(again.load_report) == f"{again.load_report.loaded} tensors from {again.load_report.source}"
    assert again.training


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm__weight": None}, "it lacks 'norm.weight'"),
        ({"norm__weight": None, "stem__weight": None, "norm__wieght": torch.ones(4)},
         r"it lacks 'stem.weight', nearest is norm.wieght and 1 more; it holds 'norm.wieght', nearest is norm.weight"),
        ({"fc__weight": torch.ones(2)}, "it holds 'fc.weight'"),
        ({"blocks__0__bias": torch.ones(3)},
         r"'blocks.0.bias' is \(3,\) float32, but \(4,\) float32 in the model$"),
        ({"blocks__0__bias": torch.ones(4, dtype=torch.int64)}, r"'blocks.0.bias' is \(4,\) int64, but \(4,\) float32"),
        ({"norm__num_batches_tracked": torch.tensor(3.0)}, r"num_batches_tracked' is \(\) float32, but \(\) int64"),
        ({"head__weight": torch.ones(6, 4), "head__bias": torch.ones(6)},
         r"'head.weight' is \(6, 4\) .*; give num_classes: the checkpoint's own keeps .* \(and 1 more\)"),
        ({"stem__weight": torch.ones(4, 1, 3, 3)}, r"'stem.weight' .*; give in_channels=1: "),
        ({"stem__weight": torch.ones(4, 3, 7, 7), "head__bias": torch.ones(6)},
         r"'stem.weight' is \(4, 3, 7, 7\) float32, but \(4, 3, 3, 3\) float32 in the model \(and 1 more\)$"),
        ({"stem__weight": torch.ones(4, 1, 3, 3), "norm__weight": None},
         r"lacks 'norm.weight'; 'stem.weight' is .* in the model$"),
        ({"blocks__1__weight": torch.ones(4, 4)}, "'blocks.0.weight' and 'blocks.1.weight' differ, but are one tensor"),
    ],
    ids=["missing", "misspelt", "unexpected", "shape", "integers", "floats", "head", "stem", "kernel", "gap", "tie"],
)  # fmt: skip
def test_what_does_not_fit_is_named(write, changes, message):
    with pytest.raises(MismatchError, match=message) as caught:
        zoo.create("toy", weights=write(**changes))
    assert "file.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("present", ["blocks__0__weight", "blocks__1__weight"])
def test_either_name_of_a_tied_matrix_will_do(model, write, present):
    absent = {"blocks__0__weight", "blocks__1__weight"} - {present}
    again = zoo.create("toy", weights=write(**dict.fromkeys(absent)))
    assert again.blocks[0].weight is again.blocks[1].weight
    assert torch.equal(again.blocks[0].weight, model.blocks[0].weight)


def test_a_new_head_is_drawn_by_the_seed_and_the_rest_is_kept(model, write):
    heads = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        again = zoo.create("toy", weights=write(), num_classes=9)
        heads.append(again.head.weight)
        assert torch.equal(again.stem.weight, model.stem.weight)
        assert again.head.weight.shape == (9, 4)
        assert torch.equal(again.head.bias, torch.zeros(9))
        assert again.load_report.adapted == (
            "head.weight new, (9, 4) instead of (5, 4)", "head.bias new, (9,) instead of (5,)",
        )  # fmt: skip
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_the_same_number_of_classes_keeps_the_head(model, write):
    again = zoo.create("toy", weights=write(), num_classes=5)
    assert torch.equal(again.head.weight, model.head.weight)
    assert again.load_report.adapted == ()


def test_a_checkpoint_without_a_head_gets_one_when_it_is_asked_for(write):
    path = write(head__weight=None, head__bias=None)
    assert (
        "head.weight new, (5, 4) instead of None" in zoo.create("toy", weights=path, num_classes=5).load_report.adapted
    )
    with pytest.raises(MismatchError, match=r"lacks 'head.weight' and 1 more"):
        zoo.create("toy", weights=path)


def test_a_head_with_further_parts_is_left_out_when_another_is_asked_for(write):
    path = write(head__scale=torch.ones(3))
    assert zoo.create("toy", weights=path, num_classes=7).load_report.ignored == ("head.scale",)
    assert str(zoo.create("toy", weights=path, num_classes=7).load_report).endswith("not used: head.scale")
    with pytest.raises(MismatchError, match=r"it holds 'head.scale'"):
        zoo.create("toy", weights=path)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6, 13])
def test_any_number_of_input_channels_is_adapted_to(model, write, channels):
    again = zoo.create("toy", weights=write(), in_channels=channels)
    weight, old = again.stem.weight, model.stem.weight
    if channels == 1:
        assert torch.equal(weight, old.sum(1, keepdim=True))
    for channel in range(channels if channels > 1 else 0):
        torch.testing.assert_close(weight[:, channel], old[:, channel % 3] * 3 / channels)
    notes = () if channels == 3 else (f"stem.weight adapted from 3 to {channels} channels",)
    assert again.load_report.adapted == notes


def test_a_grey_image_in_one_channel_does_what_it_did_in_three(model, write):
    grey = torch.rand(2, 1, 6, 6)
    again = zoo.create("toy", weights=write(), in_channels=1).eval()
    torch.testing.assert_close(again(grey), model.eval()(grey.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize("old", [1, 3, 4])
@pytest.mark.parametrize("new", [1, 2, 3, 8])
def test_adapting_keeps_the_sum_over_channels_where_they_go_evenly(old, new):
    weight = torch.randn(5, old, 3, 3, dtype=torch.float64)
    adapted = adapt_channels(weight, new)
    assert adapted.shape == (5, new, 3, 3)
    if new == 1 or new % old == 0:
        torch.testing.assert_close(adapted.sum(1), weight.sum(1))


def test_what_is_new_takes_the_dtype_of_what_is_loaded(model, tmp_path):
    folder = zoo.save(model.to(torch.bfloat16), tmp_path / "half")
    again = zoo.create(f"local-dir:{folder}", num_classes=9, in_channels=1)
    assert {tensor.dtype for tensor in again.parameters()} == {torch.bfloat16}
    assert again(torch.rand(1, 1, 4, 4, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_nothing_is_allocated_for_what_does_not_fit(write):
    with pytest.raises(MismatchError):
        zoo.create("toy", weights=write(), width=10**7)


def test_a_whole_config_counts_as_naming_every_field(write):
    again = zoo.create(ToyConfig(num_classes=9), weights=write())
    assert isinstance(again, Toy)
    assert len(again.load_report.adapted) == 2
