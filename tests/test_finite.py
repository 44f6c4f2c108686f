"""No NaN where a value is finite: every metric on every kind of matrix, size, scale and type."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import spectral_reg as sr

ESTIMATORS = {
    "hill": sr.hill(),
    "hill(0.1)": sr.hill(0.1),
    "smooth_hill": sr.smooth_hill(),
    "smooth_hill(0.01, 1)": sr.smooth_hill(0.01, 1.0),
    "rank_regression": sr.rank_regression(),
    "rank_regression(1)": sr.rank_regression(1.0),
    "soft_csn": sr.soft_csn(),
    "soft_csn(1e-4)": sr.soft_csn(1e-4),
    "frozen_csn": sr.frozen_csn(),
}
METRICS = {
    metric.__name__: metric
    for metric in (
        sr.lambda_max,
        sr.spectral_norm,
        sr.log_spectral_norm,
        sr.log_frobenius_norm,
        sr.stable_rank,
        sr.log_stable_rank,
        sr.log_stable_rank_ratio,
        sr.matrix_entropy,
    )
}
METRICS |= {
    f"{metric.__name__}, {name}": functools.partial(metric, estimator=estimator)
    for metric in (sr.alpha, sr.alpha_hat)
    for name, estimator in ESTIMATORS.items()
    if metric is sr.alpha or "(" not in name
}
METRICS |= {
    "power_law_distance()": sr.power_law_distance(),
    "power_law_distance(3)": sr.power_law_distance(3.0),
    "power_law_distance(2), whole": sr.power_law_distance(2.0, fraction=1.0),
    "power_law_distance(3), band": sr.power_law_distance(3.0, band=1.0),
    "power_law_distance(), band": sr.power_law_distance(band=1.0),
    "target of alpha": sr.target(sr.alpha, 3.0, band=0.1),
    "hinge of log_stable_rank": sr.hinge(sr.log_stable_rank, below=3.0, above=0.1),
}
SCALE_FREE = [name for name, metric in METRICS.items() if sr._spectral_metric.is_scale_free(metric)]
SCALES = (1e-12, 1e-6, 1.0, 1e6, 1e12)


def low_rank(rng, rows, cols):
    rank = max(1, min(rows, cols) // 4)
    return rng.normal(size=(rows, rank)) @ rng.normal(size=(rank, cols))


def spiked(rng, rows, cols):
    return rng.normal(size=(rows, cols)) + 30 * low_rank(rng, rows, cols)


def dead_rows(rng, rows, cols):
    return rng.normal(size=(rows, cols)) * (rng.random((rows, 1)) < 0.3)


def one_hot(rng, rows, cols):
    return np.arange(rows)[:, None] % cols == np.arange(cols)


KINDS = {
    "random": lambda rng, rows, cols: rng.normal(size=(rows, cols)),
    "spiked": spiked,
    "student": lambda rng, rows, cols: rng.standard_t(2, size=(rows, cols)),
    "low rank": low_rank,
    "dead rows": dead_rows,
    "one-hot": one_hot,
    "one element": lambda rng, rows, cols: np.arange(rows * cols).reshape(rows, cols) == 1,
    "constant spectrum": lambda rng, rows, cols: np.eye(rows, cols),
    "ones": lambda rng, rows, cols: np.ones((rows, cols)),
    "zero": lambda rng, rows, cols: np.zeros((rows, cols)),
}


def matrices(shape, seed=0, kinds=tuple(KINDS), scales=SCALES):
    """All kinds at all scales ``[kinds * scales, *shape]``, in float64."""
    rng = np.random.default_rng(seed)
    made = [np.asarray(KINDS[kind](rng, *shape), float) for kind in kinds]
    return np.stack([scale * W for W in made for scale in scales])


def too_small(name, shape):
    return min(shape) < 3 and ("csn" in name or "power_law" in name or "regression" in name)


def every_metric(W):
    """Value and gradient of each metric: one program, in which they share a decomposition."""
    names = [name for name in METRICS if not too_small(name, W.shape)]
    return {name: jax.value_and_grad(METRICS[name])(W) for name in names}


def check(stack, kinds=tuple(KINDS), scales=SCALES):
    for name, (values, gradients) in jax.jit(jax.vmap(every_metric))(stack).items():
        assert gradients.dtype == stack.dtype
        for index in np.flatnonzero(~np.isfinite(np.asarray(values))):
            raise AssertionError((name, kinds[index // len(scales)], values[index]))
        finite = np.isfinite(np.asarray(gradients, np.float32)).all(axis=(-2, -1))
        for index in np.flatnonzero(~finite):
            kind, scale = divmod(index, len(scales))
            raise AssertionError((name, kinds[kind], scales[scale], stack.shape, stack.dtype))


def test_finite_in_float32():
    check(jnp.asarray(matrices((40, 24)), jnp.float32))


@pytest.mark.parametrize("name", ["stable_rank", "power_law_distance(3)"])
def test_the_same_one_by_one_without_a_jit(name):
    stack = jnp.asarray(matrices((12, 7), kinds=("random", "dead rows"), scales=(1.0, 1e-12)))
    _, gradients = jax.jit(jax.vmap(jax.value_and_grad(METRICS[name])))(stack)
    for W, expected in zip(stack, gradients, strict=True):
        gradient = jax.grad(METRICS[name])(W)
        np.testing.assert_allclose(gradient, expected, atol=2e-4 * jnp.abs(expected).max())


# Each is a program of all metrics: so no shape in every type.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 2), jnp.float32),
        ((2, 2), jnp.float64),
        ((3, 3), jnp.float32),
        ((3, 3), jnp.bfloat16),
        ((200, 30), jnp.float64),
        ((64, 96), jnp.bfloat16),
        ((5, 37), jnp.float32),
        ((23, 4), jnp.float32),
    ],
)
def test_finite_at_every_shape_and_in_every_type(shape, dtype):
    with jax.enable_x64(dtype == jnp.float64):
        check(jnp.asarray(matrices(shape, seed=shape[0]), dtype))


@pytest.mark.slow
def test_finite_at_full_size():
    kinds, scales = ("random", "student", "dead rows", "ones"), (1e-12, 1e12)
    check(jnp.asarray(matrices((1024, 512), 0, kinds, scales), jnp.float32), kinds, scales)


def test_scale_free_ones_are_so_at_any_scale():
    """Where squares are no float32 any more, too; and the gradient is that over the scale."""
    W = np.random.default_rng(0).normal(size=(30, 20)).astype(np.float32)
    compute = jax.jit(every_metric)
    found = compute(W)
    for power in (-100, -40, 40, 60, 100):  # 1e-30 to 1e30
        for name, (value, gradient) in compute(np.ldexp(W, power)).items():
            if name in SCALE_FREE:
                assert value == found[name][0], name
                smallest = np.ldexp(np.finfo(np.float32).tiny, power)  # or it is flushed to zero
                np.testing.assert_allclose(
                    np.ldexp(np.asarray(gradient), power),
                    found[name][1],
                    rtol=0,
                    atol=smallest,
                    err_msg=name,
                )


def test_the_true_gradient_where_squares_of_eigenvalues_vanish(float64):
    W = np.random.default_rng(0).normal(size=(30, 20))
    for metric in (sr.stable_rank, sr.matrix_entropy):
        expected = 1e12 * np.asarray(jax.jit(jax.grad(metric))(W))
        with jax.enable_x64(False):
            gradient = np.asarray(jax.jit(jax.grad(metric))(jnp.asarray(1e-12 * W, jnp.float32)))
        np.testing.assert_allclose(gradient, expected, atol=1e-4 * np.abs(expected).max())


def test_of_a_spectrum_alone_too():
    """Pooled and tracked spectra come as eigenvalues, which no scaling of W has gone before."""
    eigenvalues = jnp.asarray(np.random.default_rng(0).pareto(1.5, 30) + 1, jnp.float32)
    eigenvalues = jnp.sort(eigenvalues, descending=True)
    functions = {
        name: sr._spectral_metric.function_of_eigenvalues(METRICS[name]) for name in SCALE_FREE
    }
    compute = jax.jit(
        lambda spectrum: {n: jax.value_and_grad(f)(spectrum) for n, f in functions.items()}
    )
    for scale in (1e-24, 1e-12, 1e24):
        for name, (value, gradient) in compute(scale * eigenvalues).items():
            assert jnp.isfinite(value), name
            assert jnp.isfinite(gradient).all(), name


def test_half_precision():
    W = jnp.asarray(np.random.default_rng(0).normal(size=(20, 12)), jnp.float16)
    for name, (value, gradient) in jax.jit(every_metric)(W).items():
        assert value.dtype == jnp.float32, name
        assert gradient.dtype == jnp.float16, name
        assert jnp.isfinite(gradient).all(), name


def test_nan_in_nan_out():
    for name, (value, _) in jax.jit(every_metric)(jnp.ones((8, 5)).at[2, 3].set(jnp.nan)).items():
        assert jnp.isnan(value), name


@pytest.mark.parametrize("shape", [(64, 64), (300, 100)])
def test_soft_csn_has_a_gradient_on_random_matrices(shape):
    """Where it was NaN at every one of them, by an exponential that overflows below xmin."""
    W = jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)
    gradient = jax.jit(jax.grad(METRICS["alpha, soft_csn"]))(W)
    assert jnp.isfinite(gradient).all()
    assert jnp.linalg.norm(gradient) > 0
