"""GGUF: every block against a scalar reading of llama.cpp's own loops, and files as a whole."""

import struct

import ml_dtypes
import numpy as np
import pytest
from draws import RNG
from gguf_file import write

import fitting
from fitting._checkpoints import open_checkpoint

F = np.float32


def half(data):
    return F(np.frombuffer(bytes(data), "<f2")[0])


def q4_0(b):
    d, q = half(b[:2]), b[2:]
    return [F(int(x & 15) - 8) * d for x in q] + [F(int(x >> 4) - 8) * d for x in q]


def q4_1(b):
    d, m, q = half(b[:2]), half(b[2:4]), b[4:]
    return [F(int(x & 15)) * d + m for x in q] + [F(int(x >> 4)) * d + m for x in q]


def fifths(b):
    return struct.unpack("<I", bytes(b))[0]


def q5_0(b):
    d, h, q = half(b[:2]), fifths(b[2:6]), b[6:]
    low = [F(int(x & 15) + 16 * (h >> j & 1) - 16) * d for j, x in enumerate(q)]
    return low + [F(int(x >> 4) + 16 * (h >> j + 16 & 1) - 16) * d for j, x in enumerate(q)]


def q5_1(b):
    d, m, h, q = half(b[:2]), half(b[2:4]), fifths(b[4:8]), b[8:]
    low = [F(int(x & 15) + 16 * (h >> j & 1)) * d + m for j, x in enumerate(q)]
    return low + [F(int(x >> 4) + 16 * (h >> j + 16 & 1)) * d + m for j, x in enumerate(q)]


def q8_0(b):
    return [F(int(x) - 256 * (x > 127)) * half(b[:2]) for x in b[2:]]


def scale_and_min(j, s):
    s = [int(x) for x in s]
    if j < 4:
        return s[j] & 63, s[j + 4] & 63
    return (s[j + 4] & 15) | (s[j - 4] >> 6) << 4, (s[j + 4] >> 4) | (s[j] >> 6) << 4


def q4_k(b):
    d, dmin, s, q = half(b[:2]), half(b[2:4]), b[4:16], b[16:]
    out = []
    for j in range(8):
        scale, low = scale_and_min(j, s)
        for x in q[32 * (j // 2) : 32 * (j // 2) + 32]:
            out.append(d * F(scale) * F(int(x >> 4 if j % 2 else x & 15)) - dmin * F(low))
    return out


def q5_k(b):
    d, dmin, s, h, q = half(b[:2]), half(b[2:4]), b[4:16], b[16:48], b[48:]
    out = []
    for j in range(8):
        scale, low = scale_and_min(j, s)
        for i, x in enumerate(q[32 * (j // 2) : 32 * (j // 2) + 32]):
            code = int(x >> 4 if j % 2 else x & 15) + 16 * (int(h[i]) >> j & 1)
            out.append(d * F(scale) * F(code) - dmin * F(low))
    return out


def q6_k(b):
    d, out = half(b[208:]), np.zeros(256, F)
    for n in range(2):
        ql, qh = b[64 * n : 64 * n + 64], b[128 + 32 * n : 160 + 32 * n]
        sc = np.asarray(b[192 + 8 * n : 200 + 8 * n]).view(np.int8)
        for i in range(32):
            codes = (
                (ql[i] & 15) | (qh[i] & 3) << 4,
                (ql[i + 32] & 15) | (qh[i] >> 2 & 3) << 4,
                (ql[i] >> 4) | (qh[i] >> 4 & 3) << 4,
                (ql[i + 32] >> 4) | (qh[i] >> 6 & 3) << 4,
            )
            for k, code in enumerate(codes):
                scale = F(sc[i // 16 + 2 * k])
                out[128 * n + 32 * k + i] = d * scale * F(int(code) - 32)
    return out


BLOCKS = {
    "Q4_0": (2, 32, 18, q4_0),
    "Q4_1": (3, 32, 20, q4_1),
    "Q5_0": (6, 32, 22, q5_0),
    "Q5_1": (7, 32, 24, q5_1),
    "Q8_0": (8, 32, 34, q8_0),
    "Q4_K": (12, 256, 144, q4_k),
    "Q5_K": (13, 256, 176, q5_k),
    "Q6_K": (14, 256, 210, q6_k),
}
# Where the float16 scales are; random bytes there would be NaN or huge now and then.
HALVES = {"Q4_1": 2, "Q5_1": 2, "Q4_K": 2, "Q5_K": 2}


def random_blocks(name, num_blocks):
    _, _, num_bytes, _ = BLOCKS[name]
    blocks = RNG.integers(0, 256, (num_blocks, num_bytes), dtype=np.uint8)
    scales = RNG.normal(size=(num_blocks, HALVES.get(name, 1))).astype(np.float16)
    place = slice(208, 210) if name == "Q6_K" else slice(0, 2 * scales.shape[1])
    blocks[:, place] = scales.view(np.uint8)
    return blocks


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_every_code_to_the_last_bit(tmp_path, name):
    number, num_values, _, expected = BLOCKS[name]
    rows, per_row = 24, 2
    blocks = random_blocks(name, rows * per_row)
    shape = (rows, per_row * num_values)
    path = write(tmp_path / "a.gguf", {"blk.0.attn_q.weight": (number, shape, blocks.tobytes())})
    tensor = open_checkpoint(path)["blk/0/attn_q/kernel"]
    values = np.array([expected(block) for block in blocks], F).reshape(shape).T
    np.testing.assert_array_equal(tensor.read(), values)
    assert (tensor.shape, tensor.quantization) == (shape[::-1], name)
    steps = tensor.read_steps()
    # Between any two neighbouring codes of a block lies one step.
    column = np.unique(values[:16, 0].astype(np.float64))
    multiples = np.diff(column) / steps[0, 0]
    np.testing.assert_allclose(multiples, np.round(multiples), atol=2e-3)


def test_a_file_with_settings_types_and_stacks(tmp_path):
    W = RNG.standard_t(3, (60, 64)).astype(F)
    experts = RNG.normal(size=(3, 64, 96)).astype(np.float16)
    settings = [
        ("general.architecture", 8, struct.pack("<Q", 5) + b"llama"),
        ("general.alignment", 4, struct.pack("<I", 32)),
        ("some.list", 9, struct.pack("<IQ3f", 6, 3, 1, 2, 3)),
        ("some.texts", 9, struct.pack("<IQQ1sQ2s", 8, 2, 1, b"a", 2, b"bc")),
        ("some.flag", 7, b"\1"),
        ("some.number", 12, struct.pack("<d", 1.5)),
    ]
    tensors = {
        "token_embd.weight": (30, W.shape, W.astype(ml_dtypes.bfloat16).tobytes()),
        "blk.10.ffn_up.weight": (0, W.shape, W.tobytes()),
        "blk.2.ffn_up.weight": (1, W.shape, W.astype(np.float16).tobytes()),
        "blk.2.ffn_gate_exps.weight": (1, experts.shape, experts.tobytes()),
        "blk.2.attn_norm.weight": (0, (64,), W[0].tobytes()),
        "blk.2.attn_k.weight": (11, (2, 256), bytes(220)),
    }
    report = fitting.evaluate(write(tmp_path / "a.gguf", tensors, settings), progress=False)
    rows = report.layers.set_index(["name", "index"])
    assert list(dict.fromkeys(report.layers["name"])) == [
        "blk/2/ffn_gate_exps/weight", "blk/2/ffn_up/kernel", "blk/10/ffn_up/kernel",
        "token_embd/embedding",
    ]  # fmt: skip
    top = np.linalg.svd(W.astype(np.float64), compute_uv=False)[0]
    assert rows.loc[("blk/10/ffn_up/kernel", ""), "spectral_norm"] == pytest.approx(top)
    assert rows.loc[("blk/2/ffn_up/kernel", ""), "spectral_norm"] == pytest.approx(top, rel=1e-3)
    assert rows.loc[("token_embd/embedding", ""), "kind"] == "embedding"
    stack = rows.loc["blk/2/ffn_gate_exps/weight"]
    assert stack["kind"].tolist() == ["experts"] * 3
    expected = np.linalg.svd(experts.astype(np.float64), compute_uv=False)[:, 0]
    np.testing.assert_allclose(stack["spectral_norm"], expected)
    reasons = report.skipped.set_index("name")["reason"]
    assert reasons.filter(like="attn_k").iloc[0].startswith("quantized to Q3_K, which is not read")
    assert reasons.filter(like="attn_norm").iloc[0] == "a scalar or a vector"


def good(path, number=0):
    return write(path, {"a.weight": (number, (8, 8), bytes(256))}).read_bytes()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda data: b"GGML" + data[4:], "does not begin with GGUF"),
        (lambda data: data[:4] + struct.pack("<I", 1) + data[8:], "of version 1; expected 2 or 3"),
        (lambda data: data[:4] + struct.pack(">I", 3) + data[8:], "the other byte order"),
        (lambda data: data[:8] + struct.pack("<Q", 2**60) + data[16:], "claims"),
        (lambda data: data[:30], "ends within its header"),
        (lambda data: data[:-100], "ends before its tensor 'a.weight'"),
    ],
)
def test_damaged_files(tmp_path, damage, message):
    path = tmp_path / "a.gguf"
    path.write_bytes(damage(good(path)))
    with pytest.raises(ValueError, match=rf"a\.gguf is no readable GGUF file: .*{message}"):
        fitting.evaluate(path, progress=False)


@pytest.mark.parametrize(("number", "message"), [(99, "unknown type 99"), (12, "no whole blocks")])
def test_tensors_that_cannot_be(tmp_path, number, message):
    path = tmp_path / "a.gguf"
    good(path, number)
    with pytest.raises(ValueError, match=message):
        fitting.evaluate(path, progress=False)
