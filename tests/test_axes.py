"""Which axes of a weight make its matrix: stacks, windows and groups, by default and as told."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import RNG
from weights import matrix, weight

import spectral_reg as sr


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
        (
            {"fc/*": sr.MatrixAxes()},
            r"'fc/\*' of axes matches no path; expected one that matches some of \['conv/kernel'\]",
        ),
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
        sr.layer_matrices(KERNEL, axes=3)
    with pytest.raises(TypeError, match=r"axes has \(0, 1\) for 'conv/\*'; expected MatrixAxes"):
        sr.layer_matrices(KERNEL, axes={"conv/*": (0, 1)})
    with pytest.raises(ValueError, match="expected axes from -4 to 3"):
        sr.layer_matrices(KERNEL, axes={"conv/*": sr.MatrixAxes(0.5, 1)})
