"""The exact spectrum of a convolution against its matrix, built column by column."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import RNG
from matrices import DEGENERATE

import spectral_reg as sr


def circulant(kernel, size):
    """The matrix of y[p] = sum_x K[x] y[p + x mod size], for one window position at a time."""
    *window, num_in, num_out = kernel.shape
    matrix = np.zeros((*size, num_out, *size, num_in))
    for position in np.ndindex(*size):
        for tap in np.ndindex(*window):
            source = tuple((p + x) % n for p, x, n in zip(position, tap, size, strict=True))
            matrix[(*position, slice(None), *source)] += kernel[tap].T
    return matrix.reshape(np.prod(size) * num_out, -1)


def exact(kernel, size):
    return np.linalg.svd(circulant(kernel, size), compute_uv=False) ** 2


@pytest.mark.parametrize(
    ("window", "size"),
    [
        ((3, 3), (5, 4)),
        ((2, 2), (4, 5)),
        ((3, 2), (3, 2)),
        ((5, 4), (3, 3)),  # larger than the input: wraps around
        ((3, 3), (1, 1)),
        ((3, 3), (6, 1)),
        ((3,), (7,)),
        ((2, 3, 2), (3, 4, 2)),
    ],
)
@pytest.mark.parametrize("channels", [(3, 2), (2, 3)])
def test_is_the_svd_of_the_circulant_matrix(window, size, channels, float64):
    kernel = RNG.standard_normal((*window, *channels))
    spectrum = jax.jit(sr.conv_operator(*size))(kernel)
    expected = exact(kernel, size)
    assert spectrum.shape == expected.shape == (np.prod(size) * min(channels),)
    np.testing.assert_allclose(spectrum, expected, rtol=1e-9, atol=1e-12)


def test_a_window_of_one_gives_each_value_once_a_position():
    matrix = RNG.standard_normal((4, 3)).astype(np.float32)
    spectrum = sr.layer_spectra({"conv/kernel": matrix[None, None]}, conv=sr.conv_operator(5, 6))
    expected = np.repeat(np.linalg.svd(matrix, compute_uv=False) ** 2, 30)
    np.testing.assert_allclose(spectrum["conv/kernel"], expected, rtol=1e-4)


def test_a_batch_of_kernels():
    kernels = RNG.standard_normal((2, 3, 3, 4, 3)).astype(np.float32)
    axes = {"conv/kernel": sr.MatrixAxes(window=(1, 2))}
    operator = jax.jit(sr.conv_operator(4, 4))
    params = {"conv": {"kernel": kernels}, "fc": {"kernel": kernels[0, 0, 0]}}
    spectra = sr.layer_spectra(params, conv=sr.conv_operator(4, 4), axes=axes)
    np.testing.assert_allclose(spectra["conv/kernel"], [operator(K) for K in kernels], rtol=1e-4)
    np.testing.assert_allclose(spectra["fc/kernel"], sr.eigenvalues(kernels[0, 0, 0]), rtol=1e-5)


def test_groups_are_one_convolution():
    kernel = RNG.standard_normal((3, 3, 1, 4)).astype(np.float32)
    dense = np.zeros((3, 3, 4, 4))
    dense[..., range(4), range(4)] = kernel[..., 0, :]
    axes = {"dw": sr.MatrixAxes(window=(0, 1), groups=4)}
    mask = {"dw": True}
    spectra = sr.layer_spectra({"dw": kernel}, mask=mask, conv=sr.conv_operator(4, 5), axes=axes)
    np.testing.assert_allclose(spectra["dw"], exact(dense, (4, 5)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", [sr.alpha, sr.matrix_entropy, sr.spectral_norm])
def test_gradient_by_finite_differences(metric, float64):
    kernel = jnp.asarray(RNG.standard_normal((3, 2, 4, 3)))
    operator = sr.conv_operator(4, 5)

    @jax.jit
    def value(kernel):
        return sr.spectral_penalty({"conv": {"kernel": kernel}}, metric, conv=operator)

    gradient = jax.jit(jax.grad(value))(kernel)
    direction = RNG.standard_normal(kernel.shape)
    slope = (value(kernel + 1e-5 * direction) - value(kernel - 1e-5 * direction)) / 2e-5
    assert jnp.vdot(gradient, direction) == pytest.approx(float(slope), rel=1e-6)


@pytest.mark.parametrize("matrix", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize("metric", [sr.alpha, sr.log_stable_rank])
def test_gradient_is_finite_on_degenerate_spectra(metric, matrix):
    kernel = np.zeros((3, 3, *matrix.shape), np.float32)
    kernel[1, 1] = matrix
    optimizer = sr.add_spectral_penalty(metric, 1.0, conv=sr.conv_operator(3, 4))
    params = {"conv": {"kernel": jnp.asarray(kernel)}}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, state = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    assert jnp.isfinite(state.penalty)
    assert jnp.all(jnp.isfinite(updates["conv"]["kernel"]))


def test_bfloat16_kernels_get_bfloat16_gradients():
    kernel = jnp.asarray(RNG.standard_normal((3, 3, 4, 3)), jnp.bfloat16)
    gradient = jax.jit(jax.grad(lambda K: sr.conv_operator(4, 4)(K)[0]))(kernel)
    assert gradient.dtype == jnp.bfloat16
    assert jnp.all(jnp.isfinite(gradient))


@pytest.mark.parametrize("size", [(), (0, 4), (4.0, 4), (4, -1)])
def test_bad_sizes(size):
    with pytest.raises(ValueError, match=r"size is \(.*expected whole numbers of at least 1"):
        sr.conv_operator(*size)


def test_bad_use():
    params, operator = {"conv": {"kernel": np.ones((3, 3, 4, 6))}}, sr.conv_operator(8, 8)
    with pytest.raises(ValueError, match="tracking is 'warm' and conv is conv_operator"):
        sr.add_spectral_penalty(sr.alpha, 0.1, conv=operator, tracking="warm")
    with pytest.raises(ValueError, match=r"conv is conv_operator\(8,\) .* has 2 axes; expected 1"):
        sr.layer_spectra(params, conv=sr.conv_operator(8))
    with pytest.raises(ValueError, match="conv is 'circular'; expected one of slices, flatten, po"):
        sr.layer_spectra(params, conv="circular")
    with pytest.raises(ValueError, match=r"conv is ConvOperator.*come from layer_spectra"):
        sr.layer_matrices(params, conv=operator)
    with pytest.raises(ValueError, match="plain function of matrices"):
        sr.spectral_penalty(params, jnp.sum, conv=operator)
    with pytest.raises(ValueError, match=r"kernel has shape \(3, 4, 6\); expected .*2 axes"):
        operator(jnp.ones((3, 4, 6)))
    with pytest.raises(TypeError, match="complex64; expected a real"):
        operator(jnp.ones((3, 3, 4, 6), jnp.complex64))
