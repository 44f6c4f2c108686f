"""The shape of a tail as a loss: its formula, its gradient, and what it is on a broken spectrum."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from matrices import DEGENERATE, with_singular_values

import spectral_reg as sr
from spectral_reg._power_law_distance import sampled_distance
from spectral_reg._spectral_metric import top_fraction

EXPONENTS = (1.5, 2, 2.5, 3.5, 5)


def law(exponent, size):
    """A spectrum whose logarithms lie on the line exactly."""
    return (np.arange(1, size + 1) - 0.5) ** (-1 / (exponent - 1))


def sample(exponent, size, seed=0):
    uniform = 1 - np.random.default_rng(seed).random(size)
    return np.sort(uniform ** (-1 / (exponent - 1)))[::-1]


def centred(values):
    return values - values.mean()


def residuals(eigenvalues, exponent, k):
    ranks = centred(-np.log(np.arange(1, k + 1) - 0.5))
    logs = centred(np.log(eigenvalues[:k]))
    slope = ranks @ logs / (ranks @ ranks) if exponent is None else 1 / (exponent - 1)
    return logs - slope * ranks


@pytest.mark.parametrize("exponent", EXPONENTS)
def test_an_exact_law_has_its_exponent_and_no_distance(float64, exponent):
    eigenvalues = law(exponent, 80)
    for fraction in (0.1, 0.5, 1.0):
        assert sr.rank_regression(fraction)(eigenvalues) == pytest.approx(exponent, rel=1e-12)
        for alpha in (None, exponent):
            distance = sr.power_law_distance(alpha, fraction=fraction).of_eigenvalues
            assert distance(eigenvalues) < 1e-28
            other = eigenvalues * np.where(np.arange(80) == 3, 1.01, 1)
            assert distance(other) > 1e-8


@pytest.mark.parametrize("exponent", [None, 2.5])
@pytest.mark.parametrize(("fraction", "k"), [(0.01, 3), (0.25, 26), (0.5, 51), (1.0, 101)])
def test_value_and_gradient_are_the_closed_forms(float64, exponent, fraction, k):
    eigenvalues = np.sort(np.random.default_rng(0).lognormal(size=101))[::-1]
    metric = sr.power_law_distance(exponent, fraction=fraction)
    value, gradient = jax.value_and_grad(metric.of_eigenvalues)(jnp.asarray(eigenvalues))
    expected = residuals(eigenvalues, exponent, k)
    assert value == pytest.approx(np.mean(expected**2), rel=1e-12)
    np.testing.assert_allclose(gradient[:k], 2 * expected / (k * eigenvalues[:k]), atol=1e-14)
    assert jnp.all(gradient[k:] == 0)


@pytest.mark.parametrize("exponent", [1.5, 2.5, 4])
def test_rank_regression_finds_the_exponent_of_samples(exponent):
    draws = jnp.asarray([sample(exponent, 400, seed) for seed in range(40)])
    estimates = np.asarray(sr.rank_regression(1.0)(draws))
    # Its standard error is (alpha - 1) sqrt(2 / k), as Gabaix and Ibragimov have it.
    error = (exponent - 1) * np.sqrt(2 / 400)
    assert abs(np.mean(estimates) - exponent) < 3 * error / np.sqrt(40)
    assert np.std(estimates) == pytest.approx(error, rel=0.35)


@pytest.mark.parametrize("free", [True, False])
@pytest.mark.parametrize("size", [6, 100])
def test_the_band_is_as_wide_as_samples_lie_from_their_law(free, size):
    draws = [sample(2.0, size, seed) for seed in range(3000)]
    squares = [np.mean(residuals(draw, None if free else 2.0, size) ** 2) for draw in draws]
    error = np.std(squares) / np.sqrt(3000)
    assert sampled_distance(size, free=free) == pytest.approx(np.mean(squares), abs=4 * error)


@pytest.mark.parametrize("alpha", [None, 3.0])
def test_the_band_counts_in_distances_of_samples(float64, alpha):
    bent = jnp.asarray(law(3.0, 50) * np.exp(np.where(np.arange(50) == 2, 2.0, 0)))
    rho = np.sqrt(np.mean(residuals(np.asarray(bent), alpha, 50) ** 2))
    slope = 1 / (sr.rank_regression(1.0)(bent) - 1) if alpha is None else 1 / 2
    unit = np.sqrt(sampled_distance(50, free=alpha is None)) * slope
    for band in (0.1, 0.5, 5.0):
        metric = sr.power_law_distance(alpha, fraction=1.0, band=band)
        expected = max(0, float(rho - band * unit)) ** 2
        assert metric.of_eigenvalues(bent) == pytest.approx(expected, rel=1e-10)


def test_no_force_within_the_band_and_the_direction_of_the_distance_outside(float64):
    eigenvalues = jnp.asarray(sample(3, 60))
    plain, gradient = jax.value_and_grad(sr.power_law_distance(3.0).of_eigenvalues)(eigenvalues)
    for band in (0.1, 4.0):
        metric = sr.power_law_distance(3.0, band=band)
        value, force = jax.value_and_grad(metric.of_eigenvalues)(eigenvalues)
        if band == 4:
            assert value == 0
            assert jnp.all(force == 0)
        else:
            share = jnp.sqrt(value / plain)
            np.testing.assert_allclose(force, share * gradient, rtol=1e-10)


@pytest.mark.parametrize(("alpha", "shape"), [(None, (60, 20)), (3.0, (20, 60)), (3.0, (30, 30))])
def test_gradient_is_orthogonal_to_the_matrix_and_right(float64, alpha, shape):
    W = np.random.default_rng(0).standard_normal(shape)
    metric = sr.power_law_distance(alpha)
    gradient = jax.jit(jax.grad(metric))(W)
    assert abs(jnp.vdot(W, gradient)) < 1e-12 * np.linalg.norm(W) * np.linalg.norm(gradient)
    step = np.random.default_rng(1).standard_normal(shape)
    ahead, behind = metric(W + 1e-6 * step), metric(W - 1e-6 * step)
    assert jnp.vdot(step, gradient) == pytest.approx(float(ahead - behind) / 2e-6, rel=1e-6)
    for scale in (1e-12, 1e12):
        assert metric(scale * W) == pytest.approx(float(metric(W)), rel=1e-9)


def test_every_eigenvalue_of_the_tail_carries_gradient():
    eigenvalues = jnp.asarray(sample(3, 384), jnp.float32)
    for function in (sr.rank_regression(), sr.power_law_distance(2.0).of_eigenvalues):
        force = jnp.abs(jax.grad(function)(eigenvalues) * eigenvalues)
        assert jnp.all(force[:192] > 0)
        assert force.max() / force.sum() < 0.05


def test_it_does_not_jump():
    """Along a line of matrices its steps shrink as the line is cut finer."""
    start, end = np.random.default_rng(0).standard_normal((2, 80, 60)).astype(np.float32)
    metric = jax.jit(sr.power_law_distance(3.0))

    def largest_step(num):
        values = [metric(start + t * (end - start)) for t in np.linspace(0, 0.1, num)]
        return np.abs(np.diff(values)).max()

    assert largest_step(81) < 0.2 * largest_step(11)


@pytest.mark.parametrize("band", [0.0, 1.0])
def test_broken_spectra(band):
    fixed = sr.power_law_distance(3.0, band=band).of_eigenvalues
    free = sr.power_law_distance(band=band).of_eigenvalues
    regression = sr.rank_regression()
    zero, constant = jnp.zeros(12), jnp.ones(12)
    for function, at_zero, at_constant in ((free, 0, 0), (regression, 100, 100), (fixed, 0, None)):
        for eigenvalues, expected in ((zero, at_zero), (constant, at_constant)):
            value, gradient = jax.value_and_grad(function)(eigenvalues)
            assert jnp.isfinite(gradient).all()
            if expected is not None:
                assert value == expected
                assert jnp.all(gradient == 0)
    # A constant spectrum lies at the distance of the law itself, and its ties are taken apart.
    value, gradient = jax.value_and_grad(sr.power_law_distance(3.0).of_eigenvalues)(constant)
    assert value == pytest.approx(np.mean(residuals(np.ones(12), 3, 6) ** 2), rel=1e-5)
    assert jnp.all(jnp.diff(gradient[:6]) > 0)
    one = jnp.zeros(12).at[0].set(3.0)
    assert fixed(one) == free(one) == 0
    assert jnp.isnan(jax.vmap(fixed)(jnp.stack([constant, jnp.full(12, jnp.nan)]))).tolist() == [
        False,
        True,
    ]
    assert jnp.isnan(regression(jnp.full(12, jnp.nan)))


def test_zero_eigenvalues_are_left_out_of_the_tail(float64):
    """As by the exact fit: a layer of which half has died is held to a law of what is left."""
    alive = sample(2.5, 30)
    padded = jnp.asarray(np.concatenate([alive, np.zeros(50)]))
    metric, whole = sr.power_law_distance(2.0), sr.power_law_distance(2.0, fraction=1.0)
    value, gradient = jax.value_and_grad(metric.of_eigenvalues)(padded)
    assert value == pytest.approx(float(whole.of_eigenvalues(jnp.asarray(alive))), rel=1e-12)
    assert jnp.all(gradient[30:] == 0)
    expected = sr.rank_regression(1.0)(jnp.asarray(alive))
    assert sr.rank_regression()(padded) == pytest.approx(float(expected), rel=1e-12)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("alpha", [None, 3.0])
def test_degenerate_matrices_in_a_batch(alpha, dtype):
    healthy = np.random.default_rng(0).standard_normal((6, 4))
    batch, metric = (
        jnp.asarray([healthy, *DEGENERATE.values()], dtype),
        sr.power_law_distance(alpha),
    )
    values, gradient = jax.jit(jax.vmap(jax.value_and_grad(metric)))(batch)
    assert jnp.isfinite(values).all()
    assert jnp.isfinite(gradient).all()
    assert gradient.dtype == dtype
    np.testing.assert_allclose(values[0], metric(batch[0]), rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"tracking": "warm"}, {"every": 3}])
@pytest.mark.usefixtures("promoted_types")
def test_in_an_optax_chain_it_makes_a_power_law(options):
    s = np.linspace(2, 1, 24)
    W = with_singular_values(np.random.default_rng(0), (40, 24), s).astype(np.float32)
    params, metric = {"fc": {"kernel": jnp.asarray(W)}}, sr.power_law_distance(3.0)
    optimizer = optax.chain(sr.add_spectral_penalty(metric, 1.0, **options), optax.adam(0.01))

    @jax.jit
    def run(params):
        zeros = jax.tree.map(jnp.zeros_like, params)

        def step(carry, _):
            updates, state = optimizer.update(zeros, carry[1], carry[0])
            params = optax.apply_updates(carry[0], updates)
            W = params["fc"]["kernel"]
            return (params, state), (metric(W), sr.alpha(W, estimator=sr.rank_regression()))

        return jax.lax.scan(step, (params, optimizer.init(params)), length=300)[1]

    distances, alphas = run(params)
    assert metric(W) > 0.02
    # A held gradient goes on past the law: both swing, so no single step decides.
    assert np.median(distances[-100:]) < (3e-3 if "every" in options else 1e-4)
    assert np.median(alphas[-100:]) == pytest.approx(3, abs=0.1)


def test_pooled_convolutions_and_shapes():
    kernel = np.random.default_rng(0).standard_normal((3, 3, 8, 5)).astype(np.float32)
    params, metric = {"conv": {"kernel": kernel}}, sr.power_law_distance(2.5)
    pooled = sr.layer_spectra(params, conv="pooled")["conv/kernel"]
    expected = np.mean(residuals(np.asarray(pooled), 2.5, 23) ** 2)
    assert sr.spectral_penalty(params, metric, conv="pooled") == pytest.approx(expected, rel=1e-4)
    assert metric(kernel).shape == (3, 3)
    distance = float(metric(kernel[0, 0]))
    assert sr.target(metric, 0.0)(kernel[0, 0]) == pytest.approx(distance**2)
    assert sr.hinge(metric, above=1e-4)(kernel[0, 0]) == pytest.approx(distance - 1e-4, rel=1e-4)


def test_a_metric_says_which_share_of_the_spectrum_it_reads():
    tenth = functools.partial(sr.alpha, estimator=sr.hill(0.1))
    for metric, fraction in (
        (sr.power_law_distance(3.0, fraction=0.25), 0.25),
        (sr.hinge(sr.power_law_distance(fraction=0.25), above=1e-3), 0.25),
        (sr.alpha, 0.5),
        (tenth, 0.1),
        (sr.target(tenth, 3.0), 0.1),
        (sr.spectral_metric(sr.rank_regression(0.2)), 0.2),
        (sr.spectral_metric(sr.soft_csn()), 1.0),
        (sr.spectral_metric(lambda l: l[..., 0], fraction=0.01), 0.01),  # noqa: E741
        (sr.matrix_entropy, 1.0),
        (sr.log_stable_rank, 1.0),
        (jnp.sum, 1.0),
    ):
        assert top_fraction(metric) == fraction


@pytest.mark.parametrize(
    "metric",
    [
        sr.power_law_distance(3.0, fraction=0.2),
        sr.power_law_distance(fraction=0.2, band=0.5),
        functools.partial(sr.alpha, estimator=sr.hill(0.2)),
        functools.partial(sr.alpha_hat, estimator=sr.smooth_hill(0.1, 0.2)),
        sr.target(functools.partial(sr.alpha, estimator=sr.rank_regression(0.2)), 3.0),
    ],
)
def test_a_metric_reads_no_more_than_it_says(metric):
    """The largest alone, filled up with zeros, are enough: what tracking the top relies on."""
    function = sr.spectral_metric(lambda l: l)  # noqa: E741
    eigenvalues = jnp.asarray(sample(2.5, 50), jnp.float32)
    k = 50 - int((1 - top_fraction(metric)) * 50)
    function = sr._spectral_metric.function_of_eigenvalues(metric)
    value, gradient = jax.value_and_grad(function)(eigenvalues)
    top = jnp.where(jnp.arange(50) < k, eigenvalues, 0)
    assert jnp.array_equal(value, function(top))
    np.testing.assert_array_equal(gradient, jax.grad(function)(top))
    assert jnp.all(gradient[k:] == 0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: sr.power_law_distance(1.0), "^alpha is 1.0; expected a finite number above 1"),
        (lambda: sr.power_law_distance(np.inf), "^alpha is inf; expected"),
        (lambda: sr.power_law_distance(np.nan), "^alpha is nan; expected"),
        (lambda: sr.power_law_distance(3.0, band=-1), "^band is -1; expected"),
        (lambda: sr.power_law_distance(3.0, fraction=0), "^fraction is 0; expected"),
        (lambda: sr.power_law_distance(3.0, fraction=1.5), "^fraction is 1.5; expected"),
        (lambda: sr.rank_regression(np.nan), "^fraction is nan; expected"),
        (lambda: sr.rank_regression()(jnp.ones(2)), "^fraction is 0.5; expected a tail of at leas"),
        (lambda: sr.spectral_metric(jnp.sum, fraction=0), "^fraction is 0; expected"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("options", [{}, {"tracking": "warm"}, {"conv": "pooled"}])
def test_a_layer_that_is_too_small_is_named(options):
    params = {"body": {"kernel": jnp.ones((8, 8))}, "head": {"kernel": jnp.ones((8, 2))}}
    penalty = sr.add_spectral_penalty(sr.power_law_distance(3.0), 1.0, **options)
    with pytest.raises(ValueError, match="layer 'head/kernel': fraction is"):
        penalty.init(params)
