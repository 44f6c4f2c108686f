"""Which axes of a weight make its matrix: by default, and as told."""

import functools

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import spectral_reg as sr

RNG = np.random.default_rng(0)
NUM_LAYERS, D, HEADS, DIM = 5, 12, 4, 2


def weight(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def matrix(name, array, **options):
    return sr.layer_matrices({name: array}, **options)[name]


def matrix_of(params, name, **options):
    return sr.layer_matrices(params, **options)[name]


def filled(shapes):
    """A tree of weights from one of shapes."""
    return jax.tree.map(lambda shape: weight(*shape.shape), shapes)


def check_attention(matrices, kernels, prefix):
    """The matrices of an attention layer are those of its projections as plain dense layers."""
    for projection in ("query", "key", "value"):
        kernel = kernels[f"{prefix}{projection}/kernel"]
        expected = kernel.reshape(*kernel.shape[:-2], HEADS * DIM)
        np.testing.assert_array_equal(matrices[f"{prefix}{projection}/kernel"], expected)
    out = kernels[f"{prefix}out/kernel"]
    expected = out.reshape(*out.shape[:-3], HEADS * DIM, D)
    np.testing.assert_array_equal(matrices[f"{prefix}out/kernel"], expected)


def by_name(params):
    return {sr.path_name(path): leaf for path, leaf in jax.tree.leaves_with_path(params)}


@pytest.mark.parametrize("conv", ["slices", "flatten"])
def test_nnx_attention(conv):
    def create():
        return nnx.MultiHeadAttention(HEADS, D, HEADS * DIM, rngs=nnx.Rngs(0), decode=False)

    state = filled(nnx.state(nnx.eval_shape(create), nnx.Param))
    check_attention(sr.layer_matrices(state, conv=conv), by_name(state), "")


class Block(nn.Module):
    @nn.compact
    def __call__(self, x, _):
        x = nn.MultiHeadDotProductAttention(HEADS, qkv_features=HEADS * DIM, name="mha")(x, x)
        return nn.Dense(D, name="fc")(x), None


@pytest.mark.parametrize("conv", ["slices", "flatten"])
def test_linen_attention_stacked_by_a_scan(conv):
    stack = nn.scan(
        Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=NUM_LAYERS
    )
    shapes = jax.eval_shape(stack().init, jax.random.key(0), jnp.ones((1, 3, D)), None)
    params = filled(shapes["params"])
    matrices = sr.layer_matrices(params, conv=conv)
    check_attention(matrices, by_name(params), "mha/")
    assert matrices["fc/kernel"].shape == (NUM_LAYERS, D, D)
    spectra = jax.eval_shape(functools.partial(sr.layer_spectra, conv="pooled"), params)
    assert {len(spectrum) for spectrum in spectra.values()} == {NUM_LAYERS}


def test_stacked_dense_layers_are_no_attention_heads():
    names = [f"attention/{layer}/kernel" for layer in ("query", "key", "value", "out")]
    params = {name: weight(NUM_LAYERS, D, D) for name in names}
    for name, W in sr.layer_matrices(params).items():
        np.testing.assert_array_equal(W, params[name])


def test_a_mask_takes_no_neighbour_away():
    layers = {"query": weight(D, HEADS, DIM), "out": weight(HEADS, DIM, D)}
    params = {layer: {"kernel": kernel} for layer, kernel in layers.items()}
    mask = sr.by_path("out/*")
    expected = layers["out"].reshape(HEADS * DIM, D)
    assert sr.layer_matrices(params, mask=mask)["out/kernel"].shape == expected.shape
    optimizer = sr.add_spectral_penalty(sr.log_stable_rank, 1.0, mask=mask)
    _, state = jax.jit(optimizer.update)(params, optimizer.init(params), params)
    assert state.penalty == pytest.approx(float(sr.log_stable_rank(expected)), rel=1e-5)
    assert matrix("out/kernel", layers["out"]).shape == (HEADS, DIM, D)


@pytest.mark.parametrize(
    ("name", "shape", "expected"),
    [
        ("qkv", (D, 3, HEADS, DIM), lambda W: W.transpose(1, 0, 2, 3).reshape(3, D, -1)),
        ("qkv", (7, D, 3, HEADS, DIM), lambda W: W.swapaxes(1, 2).reshape(7, 3, D, -1)),
        ("qkv", (3, D, HEADS, DIM), lambda W: W.reshape(3, D, -1)),
        ("qkv", (D, 3, DIM), lambda W: W.transpose(1, 0, 2)),
        ("qkv", (3, D, DIM), lambda W: W),
        ("qkv", (7, D, 3 * D), lambda W: W),
        ("kv", (D, 2, HEADS, DIM), lambda W: W.transpose(1, 0, 2, 3).reshape(2, D, -1)),
    ],
)
def test_fused_query_key_and_value(name, shape, expected):
    W = weight(*shape)
    for conv in ("slices", "flatten"):
        np.testing.assert_array_equal(matrix(f"attn/{name}/kernel", W, conv=conv), expected(W))


@pytest.mark.parametrize("window", [(3,), (3, 2), (3, 2, 4)])
def test_convolutions_of_flax_and_equinox(window):
    flax = nnx.eval_shape(lambda: nnx.Conv(3, 5, window, rngs=nnx.Rngs(0)))
    kernel = weight(*flax.kernel.shape)
    assert kernel.shape == (*window, 3, 5)
    np.testing.assert_array_equal(matrix("conv/kernel", kernel), kernel)
    flat = kernel.reshape(-1, 5)
    np.testing.assert_array_equal(matrix("conv/kernel", kernel, conv="flatten"), flat)
    create = functools.partial(eqx.nn.Conv, len(window), 3, 5, window)
    torch_like = weight(*eqx.filter_eval_shape(create, key=jax.random.key(0)).weight.shape)
    np.testing.assert_array_equal(
        matrix("conv/weight", torch_like)[(0,) * len(window)],
        torch_like[(..., *(0,) * len(window))].T,
    )
    expected = np.moveaxis(torch_like, (0, 1), (-1, -2)).reshape(-1, 5)
    np.testing.assert_array_equal(matrix("conv/weight", torch_like, conv="flatten"), expected)


def equinox_conv(*shape, **options):
    create = functools.partial(eqx.nn.Conv, len(shape) - 2, shape[1], shape[0], shape[2:])
    return create(**options, key=jax.random.key(0))


@pytest.mark.parametrize("window", [(3,), (3, 2), (3, 2, 4)])
def test_convolutions_of_a_live_equinox_model_are_known_by_their_type(window):
    net = eqx.nn.Sequential([equinox_conv(5, 4, *window), eqx.nn.Lambda(jnp.tanh)])
    W = net.layers[0].weight
    expected = np.moveaxis(W, (0, 1), (-1, -2))
    for params in (net, eqx.filter(net, eqx.is_array), {"value": net.layers[0]}):
        (name,) = sr.layer_matrices(params)
        np.testing.assert_array_equal(matrix_of(params, name), expected)
        flat = matrix_of(params, name, conv="flatten")
        np.testing.assert_array_equal(flat, expected.reshape(-1, 5))
    as_told = {"layers/0/weight": sr.MatrixAxes(rows=(0, 1), cols=2)}
    assert matrix_of(net, "layers/0/weight", axes=as_told).shape[-2:] == (20, 3)


def test_groups_and_stacks_of_a_live_equinox_model(quick_to_compile):
    grouped = equinox_conv(6, 4, 3, groups=2)
    matrices = matrix_of(grouped, "weight")
    assert matrices.shape == (2, 3, 2, 3)
    for group in range(2):
        np.testing.assert_array_equal(matrices[group, 1], grouped.weight[3 * group :][:3, :, 1].T)
    depthwise = equinox_conv(6, 6, 3, groups=6)
    np.testing.assert_array_equal(matrix_of(depthwise, "weight"), depthwise.weight[:, 0].T)
    up = eqx.nn.ConvTranspose1d(4, 6, 3, key=jax.random.key(0))
    np.testing.assert_array_equal(matrix_of(up, "weight"), up.weight.transpose(2, 1, 0))
    keys = jax.random.split(jax.random.key(0), 7)
    blocks = eqx.filter_vmap(lambda key: eqx.nn.Conv1d(4, 5, 3, key=key))(keys)
    assert matrix_of(blocks, "weight").shape == (7, 3, 4, 5)
    assert matrix_of(blocks, "weight", conv="flatten").shape == (7, 12, 5)
    dense = eqx.filter_vmap(lambda key: eqx.nn.Linear(4, 5, key=key))(keys)
    assert matrix_of({"conv": dense}, "conv/weight", conv="flatten").shape == (7, 5, 4)


def test_scales_of_equinox_are_no_matrices_though_they_are_stacked():
    keys = jax.random.split(jax.random.key(0), 7)
    scales = eqx.filter_vmap(lambda key: eqx.nn.LayerNorm(6))(keys)
    params = {"ln": scales, "wide": eqx.nn.LayerNorm((3, 4)), "fc": {"weight": weight(3, 2)}}
    assert params["ln"].weight.shape == (7, 6)
    assert set(sr.layer_matrices(params)) == {"fc/weight"}


def test_a_penalty_on_a_live_equinox_model_is_that_of_its_matrices():
    net = equinox_conv(8, 6, 5)
    W = jnp.moveaxis(net.weight, (0, 1), (-1, -2))
    expected = jnp.sum(sr.log_stable_rank(W))
    assert sr.spectral_penalty(net, sr.log_stable_rank) == pytest.approx(float(expected), rel=1e-5)
    params = eqx.filter(net, eqx.is_array)
    for tracking in ("exact", "warm"):
        penalty = sr.add_spectral_penalty(sr.log_stable_rank, 1.0, tracking=tracking)
        zeros, state = jax.tree.map(jnp.zeros_like, params), penalty.init(params)
        _, state = jax.jit(penalty.update)(zeros, state, params)
        assert state.penalty == pytest.approx(float(expected), rel=1e-3)


def test_three_axes_are_a_stack_unless_the_layer_is_called_conv():
    W = weight(3, 4, 5)
    np.testing.assert_array_equal(matrix("blocks/fc/kernel", W, conv="flatten"), W)
    np.testing.assert_array_equal(matrix("Conv_0/kernel", W, conv="flatten"), W.reshape(3 * 4, 5))
    as_window = {"*/kernel": sr.MatrixAxes(window=0)}
    np.testing.assert_array_equal(
        matrix("fc/kernel", W, conv="flatten", axes=as_window), W.reshape(3 * 4, 5)
    )


def test_a_stack_of_convolutions_as_told():
    W = weight(2, 3, 3, 4, 5)
    axes = {"conv/*": sr.MatrixAxes(rows=-2, cols=-1, window=(-4, -3))}
    flat = matrix("conv/kernel", W, conv="flatten", axes=axes)
    np.testing.assert_array_equal(flat, W.reshape(2, 36, 5))
    pooled = sr.layer_spectra({"conv/kernel": W}, conv="pooled", axes=axes)["conv/kernel"]
    each = [sr.layer_spectra({"conv/kernel": w}, conv="pooled")["conv/kernel"] for w in W]
    np.testing.assert_allclose(pooled, each, rtol=1e-5)
    # Tracked values must be pooled in the same way, layer by layer.
    params = {"conv": {"kernel": jnp.asarray(W)}}
    for metric in (sr.log_stable_rank, sr.matrix_entropy):
        expected = jnp.sum(metric.of_eigenvalues(pooled))
        warm = sr.add_spectral_penalty(metric, 1.0, conv="pooled", axes=axes, tracking="warm")
        _, state = jax.jit(warm.update)(params, warm.init(params), params)
        assert state.penalty == pytest.approx(float(expected), rel=1e-4)


def test_one_specification_by_einsum():
    """Any axes: the matrix of rows (b, d) and columns (a, e), a batch over c."""
    W = weight(2, 3, 4, 5, 6)
    told = matrix("w", W, axes={"w": sr.MatrixAxes(rows=(1, 3), cols=(0, -1))})
    expected = np.einsum("abcde->cbdae", W).reshape(4, 15, 12)
    np.testing.assert_array_equal(told, expected)


def test_the_first_pattern_counts():
    axes = {"a/*": sr.MatrixAxes(rows=0, cols=(1, 2)), "*": sr.MatrixAxes(rows=(0, 1), cols=2)}
    params = {"a": {"kernel": weight(2, 3, 4)}, "b": {"kernel": weight(2, 3, 4)}}
    shapes = {name: W.shape for name, W in sr.layer_matrices(params, axes=axes).items()}
    assert shapes == {"a/kernel": (2, 12), "b/kernel": (6, 4)}


def patches_matrix(kernel, groups):
    """A grouped convolution on one patch: [window * in, out], zero between the groups."""
    *window, rows, cols = kernel.shape
    dense = np.zeros((*window, rows * groups, cols), kernel.dtype)
    for group in range(groups):
        columns = slice(group * cols // groups, (group + 1) * cols // groups)
        dense[..., group * rows : (group + 1) * rows, columns] = kernel[..., columns]
    return dense


@pytest.mark.parametrize(("rows", "cols", "groups"), [(2, 6, 3), (1, 6, 6), (1, 6, 3)])
def test_groups_are_the_blocks_of_the_layers_matrix(rows, cols, groups):
    """Known answer: the nonzero spectrum of the block-diagonal matrix, built explicitly."""
    kernel = weight(3, 2, rows, cols)
    axes = {"dw/kernel": sr.MatrixAxes(window=(0, 1), groups=groups)}
    params = {"dw": {"kernel": kernel}}
    matrices = sr.layer_matrices(params, axes=axes, conv="flatten")["dw/kernel"]
    assert matrices.shape == (groups, 6 * rows, cols // groups)
    dense = patches_matrix(kernel, groups).reshape(-1, cols)
    expected = np.linalg.svd(dense, compute_uv=False) ** 2
    spectrum = sr.layer_spectra(params, axes=axes, conv="flatten")["dw/kernel"].ravel()
    np.testing.assert_allclose(np.sort(spectrum)[::-1], expected, rtol=1e-4)
    if rows > 1:
        slices = np.linalg.svd(patches_matrix(kernel, groups), compute_uv=False) ** 2
        pooled = sr.layer_spectra(params, axes=axes, conv="pooled")["dw/kernel"]
        np.testing.assert_allclose(pooled, np.sort(slices.ravel())[::-1], rtol=1e-4)


@pytest.mark.parametrize("conv", ["slices", "flatten"])
def test_a_depthwise_kernel_is_not_cut_up(conv):
    kernel = weight(3, 3, 1, 16)
    np.testing.assert_array_equal(matrix("dw/kernel", kernel, conv=conv), kernel.reshape(9, 16))
    spectrum = sr.layer_spectra({"dw/kernel": kernel}, conv="pooled")["dw/kernel"]
    np.testing.assert_allclose(
        spectrum, np.linalg.svd(kernel.reshape(9, 16), compute_uv=False) ** 2, rtol=1e-4
    )


@pytest.mark.parametrize("conv", ["slices", "pooled", sr.conv_operator(3, 3)])
def test_gradients_come_back_to_the_weights_own_axes(conv, float64):
    params = {
        "attn": {"query": {"kernel": RNG.standard_normal((6, 2, 3))}},
        "conv": {"weight": RNG.standard_normal((5, 4, 2, 2))},
        "dw": {"kernel": RNG.standard_normal((2, 2, 2, 6))},
    }
    params = jax.tree.map(jnp.asarray, params)
    axes = {"dw/*": sr.MatrixAxes(window=(0, 1), groups=2)}

    @jax.jit
    def penalty(params):
        return sr.spectral_penalty(params, sr.log_stable_rank, conv=conv, axes=axes)

    gradient = jax.jit(jax.grad(penalty))(params)
    direction = jax.tree.map(lambda leaf: RNG.standard_normal(leaf.shape), params)
    ahead, behind = (
        penalty(optax.tree.add_scale(params, step, direction)) for step in (1e-5, -1e-5)
    )
    slope = optax.tree.vdot(gradient, direction)
    assert slope == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-6)


KERNEL = {"conv": {"kernel": np.ones((3, 3, 4, 6))}}


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"fc/*": sr.MatrixAxes()}, r"'fc/\*' of axes matches none of the paths \['conv/kernel'\]"),
        ({"conv/*": sr.MatrixAxes(0, 4)}, r"of shape \(3, 3, 4, 6\) .*expected axes from -4 to 3"),
        ({"conv/*": sr.MatrixAxes(-5, 0)}, "expected axes from -4 to 3"),
        ({"conv/*": sr.MatrixAxes((0, 1), (1, 2))}, "expected each axis at most once"),
        ({"conv/*": sr.MatrixAxes(3, -1)}, "expected each axis at most once"),
        ({"conv/*": sr.MatrixAxes(2, 3, window=2)}, "expected each axis at most once"),
        ({"conv/*": sr.MatrixAxes((), 1)}, "expected at least one axis for rows"),
        ({"conv/*": sr.MatrixAxes(2, 3, groups=4)}, "groups that divide its 6 columns"),
        ({"conv/*": sr.MatrixAxes(2, 3, groups=0)}, "groups that divide its 6 columns"),
    ],
)
def test_bad_axes(axes, message):
    for call in (sr.layer_matrices, sr.layer_spectra):
        with pytest.raises(ValueError, match=message):
            call(KERNEL, axes=axes)
    with pytest.raises(ValueError, match=message):
        sr.spectral_penalty(KERNEL, sr.alpha, axes=axes)
    with pytest.raises(ValueError, match=message):
        sr.add_spectral_penalty(sr.alpha, 0.1, axes=axes).init(KERNEL)


def test_axes_of_the_wrong_type():
    with pytest.raises(TypeError, match=r"axes is .*; expected a dict"):
        sr.layer_matrices(KERNEL, axes=sr.MatrixAxes(2, 3))
    with pytest.raises(TypeError, match=r"axes has \(0, 1\) for 'conv/\*'; expected MatrixAxes"):
        sr.layer_matrices(KERNEL, axes={"conv/*": (0, 1)})
    with pytest.raises(ValueError, match="expected axes from -4 to 3"):
        sr.layer_matrices(KERNEL, axes={"conv/*": sr.MatrixAxes(0.5, 1)})
