"""Large stacks of matrices, read and measured one at a time."""

import tracemalloc

import gguf_file
import ml_dtypes
import numpy as np
import pytest
from draws import RNG
from safetensors.numpy import save_file

import fitting
from fitting._evaluation import _one_by_one

EXPERTS = "model.layers.0.mlp.experts"


@pytest.fixture
def any_stack(monkeypatch):
    monkeypatch.setattr(_one_by_one, "STACK_VALUES", 1)
    monkeypatch.setattr(_one_by_one, "PLACE_VALUES", 1)


def mxfp4(num=5, rows=64, groups=2):
    return {
        f"{EXPERTS}.gate_up_proj_blocks": RNG.integers(
            0, 256, (num, rows, groups, 16), dtype=np.uint8
        ),
        f"{EXPERTS}.gate_up_proj_scales": RNG.integers(
            120, 130, (num, rows, groups), dtype=np.uint8
        ),
    }


def fp8(num=5):
    codes = RNG.integers(0, 120, (num, 64, 256), dtype=np.uint8)
    return {
        f"{EXPERTS}.w1.weight": codes.view(ml_dtypes.float8_e4m3fn),
        f"{EXPERTS}.w1.weight_scale_inv": RNG.lognormal(size=(num, 1, 2)).astype(np.float32),
    }


def plain(num=5):
    return {
        "block_sparse_moe.input_linear.weight": RNG.normal(size=(num, 64, 48)).astype(
            ml_dtypes.bfloat16
        )
    }


def saved(folder, weights):
    save_file(weights, folder / "model.safetensors")
    return folder / "model.safetensors"


def rows(report):
    table = report.layers.set_index(["name", "index"]).sort_index()
    return table, {key: report.spectrum(*key) for key in table.index}


def assert_same(one, other):
    (table, spectra), (expected, expected_spectra) = rows(one), rows(other)
    assert table.equals(expected)
    for key, spectrum in spectra.items():
        np.testing.assert_array_equal(spectrum, expected_spectra[key])


@pytest.mark.parametrize("stack", [mxfp4, fp8, plain])
def test_rows_as_of_the_whole_stack(tmp_path, any_stack, monkeypatch, stack):
    path = saved(tmp_path, stack())
    one_by_one = fitting.evaluate(path, progress=False)
    monkeypatch.setattr(_one_by_one, "STACK_VALUES", 2**60)
    assert_same(one_by_one, fitting.evaluate(path, progress=False))


def test_of_blocks_of_gguf(tmp_path, any_stack, monkeypatch):
    blocks = RNG.integers(0, 256, (5 * 64 * 3, 34), dtype=np.uint8)
    blocks[:, :2] = RNG.lognormal(size=(len(blocks), 1)).astype(np.float16).view(np.uint8)
    path = tmp_path / "model.gguf"
    gguf_file.write(path, {"blk.0.ffn_up_exps.weight": (8, (5, 64, 96), blocks.tobytes())})
    one_by_one = fitting.evaluate(path, progress=False)
    assert len(one_by_one.layers) == 5
    monkeypatch.setattr(_one_by_one, "STACK_VALUES", 2**60)
    assert_same(one_by_one, fitting.evaluate(path, progress=False))


def test_memory_is_that_of_a_few_places(tmp_path, any_stack, monkeypatch):
    path = saved(tmp_path, mxfp4(64, 128, 8))
    whole = 64 * 128 * 256 * 4

    def peak():
        tracemalloc.start()
        fitting.evaluate(path, layers=["*gate_up_proj"], progress=False)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak()  # of what is loaded on the first call
    assert peak() < whole / 2
    monkeypatch.setattr(_one_by_one, "STACK_VALUES", 2**60)
    assert peak() > whole


def test_resumed_place_by_place(tmp_path, any_stack):
    path, out = saved(tmp_path, plain()), tmp_path / "out"
    report = fitting.evaluate(path, out=out, progress=False)
    files = sorted((out / "weights").iterdir())
    assert len(files) == 5
    files[3].unlink()
    assert fitting.evaluate(path, out=out, resume=True, progress=False) == report


@pytest.mark.parametrize("base_in_memory", [True, False])
def test_the_change_of_each_place(tmp_path, any_stack, base_in_memory):
    weights = plain()
    name, tuned = next(iter(weights.items()))
    path = saved(tmp_path, weights)
    base = {name: (tuned.astype(np.float32) * 0.9).astype(np.float16)}
    base_path = base
    if not base_in_memory:
        (tmp_path / "base").mkdir()
        base_path = saved(tmp_path / "base", base)
    report = fitting.evaluate(path, base=base_path, progress=False)
    assert report.layers["index"].tolist() == [*"01234"]
    change = tuned[3].astype(np.float32) - base[name][3].astype(np.float32)
    expected = np.linalg.norm(change, 2) ** 2
    assert report.layers.loc[3, "lambda_max"] == pytest.approx(expected, rel=1e-5)
    fewer = fitting.evaluate(path, base={name: base[name][:3]}, progress=False)
    assert fewer.layers["index"].tolist() == [*"012"]
