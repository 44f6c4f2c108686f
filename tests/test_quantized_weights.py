"""FP8 with scales, MXFP4, AWQ and GPTQ: files made by loops of their own, every code in them."""

import json
import math

import ml_dtypes
import numpy as np
import pytest
from draws import RNG
from safetensors.numpy import save_file

import fitting
from fitting._checkpoints import noise_edge, open_checkpoint
from fitting._checkpoints._packed import code_steps

F = np.float32
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)  # the columns in the eight fields of AWQ's int32, lowest first


def saved(folder, tensors, quantization=None):
    path = folder / "model.safetensors"
    save_file({name: np.ascontiguousarray(t).reshape(t.shape) for name, t in tensors.items()}, path)
    if quantization is not None:
        (folder / "config.json").write_text(json.dumps({"quantization_config": quantization}))
    return open_checkpoint(path)


def e4m3(code):
    sign, exponent, mantissa = -1 if code & 128 else 1, code >> 3 & 15, code & 7
    if exponent == 15 and mantissa == 7:
        return math.nan
    if exponent == 0:
        return sign * mantissa * 2.0**-9
    return sign * (1 + mantissa / 8) * 2.0 ** (exponent - 7)


@pytest.mark.parametrize("name", ["a.weight_scale_inv", "a.weight_scale"])
def test_block_scaled_fp8_of_all_codes(tmp_path, name):
    codes = np.concatenate([np.arange(256), RNG.integers(0, 256, 300 * 200 - 256)])
    codes = codes.astype(np.uint8).reshape(300, 200)
    scales = RNG.lognormal(size=(3, 2)).astype(F)
    weights = {"a.weight": codes.view(ml_dtypes.float8_e4m3fn), name: scales}
    tensors = saved(tmp_path, weights)
    found = tensors["a/kernel"]
    expected = np.array(
        [
            [F(e4m3(int(codes[i, j]))) * scales[i // 128, j // 128] for j in range(200)]
            for i in range(300)
        ]
    )
    np.testing.assert_array_equal(found.read(), expected.T)
    assert found.quantization == "float8_e4m3fn, scales of 128 x 128 blocks"
    scale = next(tensor for path, tensor in tensors.items() if path != "a/kernel")
    assert scale.reason == "a part of the quantized weight a.weight"
    steps = found.read_steps().T
    # From 1 to 2 the numbers are an eighth apart.
    inner = np.isin(codes, np.arange(57, 64))
    wide = np.repeat(np.repeat(scales, 128, 0), 128, 1)[:300, :200]
    np.testing.assert_allclose(steps[inner], wide[inner] / 8, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "block"), [((64, 128), (64, 64)), ((4, 1), (64, 256)), ((), (256, 256))]
)
def test_other_grids_of_scales(tmp_path, shape, block):
    codes = RNG.integers(0, 120, (256, 256), dtype=np.uint8)
    scales = RNG.lognormal(size=(4, 4) if block == (64, 64) else shape).astype(F)
    settings = {"weight_block_size": [64, 64]} if block == (64, 64) else None
    weights = {"a.weight": codes.view(ml_dtypes.float8_e4m3fn), "a.weight_scale": scales}
    found = saved(tmp_path, weights, settings)["a/kernel"]
    plain = codes.view(ml_dtypes.float8_e4m3fn).astype(F)
    grid = scales.reshape(256 // block[0], 256 // block[1])
    expected = plain * np.kron(grid, np.ones(block, F))
    np.testing.assert_array_equal(found.read(), expected.T)


def test_mxfp4_of_all_codes_and_scales(tmp_path):
    values = (0, 0.5, 1, 1.5, 2, 3, 4, 6)
    blocks = RNG.integers(0, 256, (2, 128, 3, 16), dtype=np.uint8)
    scales = RNG.permutation(np.arange(768) % 256).astype(np.uint8).reshape(2, 128, 3)
    weights = {"m.experts.gate_up_proj_blocks": blocks, "m.experts.gate_up_proj_scales": scales}
    tensors = saved(tmp_path, weights)
    found = tensors["m/experts/gate_up_proj"]
    expected = np.zeros((2, 96, 128))
    for e, row, group, byte in np.ndindex(blocks.shape):
        exponent = int(scales[e, row, group]) - 127
        for half, code in enumerate(
            (blocks[e, row, group, byte] & 15, blocks[e, row, group, byte] >> 4)
        ):
            number = (-1) ** int(code >> 3) * values[code & 7] * 2.0**exponent
            place = 32 * group + 2 * byte + half
            expected[e, place, row] = math.nan if exponent == 128 else number
    with np.errstate(over="ignore"):
        expected = expected.astype(F)
    np.testing.assert_array_equal(found.read(), expected)
    assert found.quantization == "MXFP4, blocks of 32"
    steps = found.read_steps()
    ok = np.isfinite(expected)
    np.testing.assert_allclose(steps[ok & (expected == 0)].min() / 2.0**-127, 0.5, rtol=1e-6)
    assert {
        tensor.reason for name, tensor in tensors.items() if name.endswith(("blocks", "scales"))
    } == {"a part of the quantized weight m.experts.gate_up_proj"}


def pack(numbers, order):
    packed = np.zeros((len(numbers), numbers.shape[1] // 8), np.uint32)
    for row, col in np.ndindex(packed.shape):
        for field in range(8):
            packed[row, col] |= np.uint32(numbers[row, 8 * col + order[field]]) << np.uint32(
                4 * field
            )
    return packed.view(np.int32)


def integers(num_inputs=256, num_outputs=32, size=64):
    codes = RNG.integers(0, 16, (num_inputs, num_outputs))
    zeros = RNG.integers(0, 16, (num_inputs // size, num_outputs))
    scales = RNG.lognormal(size=zeros.shape).astype(np.float16)
    return codes, zeros, scales


def test_awq_of_all_codes_and_zeros(tmp_path):
    codes, zeros, scales = integers()
    layer = {"qweight": pack(codes, ORDER), "qzeros": pack(zeros, ORDER), "scales": scales}
    found = saved(tmp_path, {f"a.{name}": part for name, part in layer.items()})["a/kernel"]
    expected = np.zeros((256, 32), F)
    for i, j in np.ndindex(expected.shape):
        expected[i, j] = F(codes[i, j] - zeros[i // 64, j]) * F(scales[i // 64, j])
    np.testing.assert_array_equal(found.read(), expected)
    np.testing.assert_array_equal(found.read_steps(), np.repeat(scales.astype(F), 64, 0))
    assert found.quantization == "AWQ int4, groups of 64"


@pytest.mark.parametrize("version", [None, "gptq", "gptq_v2"])
@pytest.mark.parametrize("in_order", [True, False])
def test_gptq_of_all_codes_and_zeros(tmp_path, version, in_order):
    codes, zeros, scales = integers()
    groups = np.arange(256, dtype=np.int32) // 64
    groups = groups if in_order else RNG.permutation(groups)
    plain = tuple(range(8))
    layer = {
        "qweight": np.ascontiguousarray(pack(codes.T, plain).T),
        "qzeros": pack(zeros, plain),
        "scales": scales,
        "g_idx": groups,
    }
    settings = {"checkpoint_format": version} if version else None
    weights = {f"a.{name}": part for name, part in layer.items()}
    found = saved(tmp_path, weights, settings)["a/kernel"]
    expected = np.zeros((256, 32), F)
    for i, j in np.ndindex(expected.shape):
        zero = zeros[groups[i], j] if version == "gptq_v2" else (zeros[groups[i], j] + 1) % 16
        expected[i, j] = F(codes[i, j] - zero) * F(scales[groups[i], j])
    np.testing.assert_array_equal(found.read(), expected)
    np.testing.assert_array_equal(found.read_steps(), scales.astype(F)[groups])
    assert found.quantization == "GPTQ int4, groups of 64"


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        ({"a.qweight": np.zeros((8, 8), np.int32)}, "part of a quantized layer"),
        (
            {"a.qweight": np.zeros((24, 64), np.int32), "a.qzeros": np.zeros((2, 6), np.int32),
             "a.scales": np.ones((2, 64), np.float16)},
            "part of a quantized layer",
        ),  # three bits
        ({"a.experts_blocks": np.zeros((2, 8, 3, 12), np.uint8)}, "in a packing that is not known"),
        ({"a.W_q": np.zeros((8, 8), np.uint8)}, "quantized: uint8"),
        ({"a.weight._data": np.zeros((8, 8), np.int8)}, "quantized: int8"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_said_to_be_quantized(tmp_path, tensors, reason):
    found = saved(tmp_path, tensors)
    assert all(reason in tensor.reason for tensor in found.values())


def quantized_fp8(W):
    blocks = W.reshape(W.shape[0] // 128, 128, W.shape[1] // 128, 128)
    scales = (np.abs(blocks).max(axis=(1, 3)) / 448).astype(F)
    wide = np.kron(scales, np.ones((128, 128), F))
    return {"fc.weight": (W / wide).astype(ml_dtypes.float8_e4m3fn), "fc.weight_scale_inv": scales}


def quantized_awq(W):
    groups = W.T.reshape(W.shape[1] // 64, 64, W.shape[0])
    scales = (np.abs(groups).max(axis=1) / 7).astype(np.float16)
    codes = np.clip(np.round(groups / scales[:, None].astype(F)) + 8, 0, 15).astype(int)
    zeros = np.full(scales.shape, 8)
    return {
        "fc.qweight": pack(codes.reshape(W.shape[::-1]), ORDER),
        "fc.qzeros": pack(zeros, ORDER),
        "fc.scales": scales,
    }


@pytest.mark.parametrize("quantize", [quantized_fp8, quantized_awq])
def test_the_edge_of_the_noise_is_where_its_eigenvalues_end(tmp_path, quantize):
    W = np.random.default_rng(0).standard_t(5, (384, 256)).astype(F)
    found = saved(tmp_path, quantize(W))["fc/kernel"]
    error = found.read().astype(np.float64) - W.T
    largest = np.linalg.svd(error, compute_uv=False)[0] ** 2
    edge = noise_edge(found.read_steps())
    assert 0.3 * edge < largest < 1.02 * edge

    row = fitting.evaluate(tmp_path / "model.safetensors", progress=False).layers.loc[0]
    assert row["noise_edge"] == pytest.approx(edge)
    assert not row["xmin"] < edge
    assert row["quantization"].startswith(("float8_e4m3fn", "AWQ"))
    page = fitting.evaluate(tmp_path / "model.safetensors", progress=False).to_html(
        tmp_path / "a.html"
    )
    assert "1 matrices are quantized (" in page.read_text(encoding="utf-8")
    plain = np.linalg.svd(found.read().astype(np.float64), compute_uv=False)
    assert row["lambda_max"] == pytest.approx(plain[0] ** 2)


def test_no_tail_is_fitted_where_noise_is_all_there_is(tmp_path):
    weights = {
        "fc.weight": np.ones((256, 256), ml_dtypes.float8_e4m3fn),
        "fc.weight_scale": np.full((), 1e-3, F),
    }
    # Nearly all weights round to zero, some to the smallest number: less than rounding may add.
    codes = (RNG.random((256, 256)) < 0.02).astype(np.uint8) * RNG.choice([1, 129], (256, 256))
    codes = codes.astype(np.uint8)
    weights["fc.weight"] = codes.view(ml_dtypes.float8_e4m3fn)
    save_file(weights, tmp_path / "a.safetensors")
    report = fitting.evaluate(tmp_path / "a.safetensors", progress=False)
    row = report.layers.loc[0]
    assert not row["valid"]
    assert "where the noise of quantization ends" in row["reason"]
    assert np.isfinite(row["lambda_max"])


def test_the_width_of_unequal_intervals():
    steps = code_steps(np.array([0.0, 1.0, 2.0, 4.0, math.nan]))
    # 2 stands for 1.5 to 3: its mean square distance is (.5^3 + 1) / (3 * 1.5).
    assert steps.tolist() == pytest.approx([1, 1, (12 * 1.125 / 4.5) ** 0.5, 2, 0])
