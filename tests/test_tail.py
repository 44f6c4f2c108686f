"""The tail of a spectrum followed by block power iteration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrices import DEGENERATE, with_singular_values

import spectral_reg as sr

TENTH = {
    "hill": sr.spectral_metric(sr.smooth_hill(low=0.02, high=0.1)),
    "distance": sr.power_law_distance(2.5, fraction=0.1),
    "steered": sr.target(sr.spectral_metric(sr.rank_regression(0.1)), 3.0),
}


def heavy(shape, seed=0):
    rng = np.random.default_rng(seed)
    quantiles = (np.arange(min(shape)) + 0.5) / min(shape)
    return with_singular_values(rng, shape, quantiles**-0.3)


def drift(shape, num_steps, noise=0.003):
    """A heavy-tailed matrix that moves by noise and along two directions, as in training."""
    rng = np.random.default_rng(1)
    W, directions = heavy(shape), [rng.standard_normal((2, side)) for side in shape]
    for _ in range(num_steps):
        yield {"fc": {"kernel": jnp.asarray(W, jnp.float32)}}
        W = W + noise * W.std() * rng.standard_normal(shape)
        W = W + 1e-4 * directions[0].T @ directions[1]


def run(metric, trees, **options):
    transformation = sr.add_spectral_penalty(metric, 1.0, **options)
    state, update = None, jax.jit(transformation.update)
    for params in trees:
        state = transformation.init(params) if state is None else state
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, state = update(zeros, state, params)
        yield updates["fc"]["kernel"], state


def cosine(a, b):
    return float(jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b)))


def tail_of(state):
    return state.vectors["fc/kernel"]


@pytest.mark.parametrize("name", TENTH)
def test_follows_the_exact_penalty(name):
    trees = list(drift((240, 160), 12))
    exact, tracked = run(TENTH[name], trees), run(TENTH[name], trees, tracking="tail")
    for (gradient, state), (followed, tail) in zip(exact, tracked, strict=True):
        assert tail.penalty == pytest.approx(float(state.penalty), rel=1e-2, abs=1e-4)
        assert cosine(gradient, followed) > 0.99
    last = tail_of(tail)
    assert last.vectors.shape == (160, 44)
    assert last.num_iterations == 1
    assert last.error < 1


@pytest.mark.parametrize(
    ("metric", "tracking"),
    [(TENTH["hill"], "tail"), (sr.alpha, "warm"), (sr.spectral_norm, "warm")],
)
def test_vectors_in_bfloat16(metric, tracking):
    trees = list(drift((240, 160), 8))
    exact = run(metric, trees)
    tracked = run(metric, trees, tracking=tracking, state_dtype="bfloat16")
    for (gradient, state), (followed, own) in zip(exact, tracked, strict=True):
        assert own.penalty == pytest.approx(float(state.penalty), rel=2e-3)
        assert cosine(gradient, followed) > 0.99


def test_starts_and_starts_again_by_itself():
    first, other = (
        {"fc": {"kernel": jnp.asarray(heavy((96, 80), s), jnp.float32)}} for s in (0, 9)
    )
    trees = [first, first, other, other]
    seen = []
    for params, (gradient, state) in zip(
        trees, run(TENTH["hill"], trees, tracking="tail"), strict=True
    ):
        value, exact = jax.value_and_grad(TENTH["hill"])(params["fc"]["kernel"])
        assert state.penalty == pytest.approx(float(value), rel=1e-2)
        assert cosine(gradient, exact) > 0.99
        seen.append(int(tail_of(state).num_iterations))
    assert seen[0] > 1
    assert seen[1] == 1
    assert seen[2] > 1
    assert seen[3] == 1


def test_finds_what_rises_from_nothing():
    # Exact eigenvectors of both matrices, of other eigenvalues: no residual tells.
    before, after = np.ones(64), np.ones(64)
    before[0], after[-1] = 10, 10
    trees = [{"fc": {"kernel": jnp.diag(jnp.asarray(d, jnp.float32))}} for d in (before, after)]
    metric = sr.spectral_metric(lambda eigenvalues: eigenvalues[..., 0], fraction=0.05)
    for _, state in run(metric, [trees[0]] * 2 + [trees[1]] * 2, tracking="tail"):
        assert state.penalty == pytest.approx(100, rel=1e-3)


def test_finds_what_rises_where_the_span_has_no_part():
    # Two blocks: all that are followed are of the first one, until the other rises.
    first, second = heavy((80, 40), 1), 0.1 * heavy((80, 40), 2)
    metric = sr.spectral_metric(lambda eigenvalues: eigenvalues[..., 3], fraction=0.05)

    def trees():
        for step in range(70):
            W = np.zeros((160, 80))
            W[:80, :40], W[80:, 40:] = first, second * (1 + 0.1 * max(step - 20, 0))
            yield {"fc": {"kernel": jnp.asarray(W, jnp.float32)}}

    for params, (_, state) in zip(trees(), run(metric, trees(), tracking="tail"), strict=True):
        assert state.penalty == pytest.approx(float(metric(params["fc"]["kernel"])), rel=1e-3)


def test_neighbours_across_the_border_of_the_tail_are_told_apart():
    # The last of the tail's 16 and the first beyond it turn by half a right angle, through a
    # direction that is not followed: so little of that is in each that their angles do not tell.
    X = np.diag(1 + np.arange(160)[::-1] / 160)
    X[16, 16] = X[15, 15] * (1 - 1e-4)
    turned = X.copy()
    turned[[15, 16], 120] = turned[120, [15, 16]] = 0.012
    trees = [
        {"fc": {"kernel": jnp.asarray(np.linalg.cholesky(gram).T, jnp.float32)}}
        for gram in (X, X, turned)
    ]
    *_, (gradient, state) = run(TENTH["hill"], trees, tracking="tail")
    exact = jax.grad(TENTH["hill"])(trees[-1]["fc"]["kernel"])
    assert cosine(gradient, exact) > 0.9999
    assert 1 < tail_of(state).num_iterations < 10


def test_fewer_than_three_eigenvalues_are_followed_as_three():
    metric = sr.power_law_distance(2.5, fraction=0.01)
    params = {"fc": {"kernel": jnp.asarray(heavy((60, 48)), jnp.float32)}}
    ((gradient, state),) = run(metric, [params], tracking="tail")
    value, exact = jax.value_and_grad(metric)(params["fc"]["kernel"])
    assert tail_of(state).vectors.shape == (48, 3 + 8)
    assert state.penalty == pytest.approx(float(value), rel=1e-2, abs=1e-5)
    assert cosine(gradient, exact) > 0.99


def frobenius(W):
    return jnp.sum(W * W, axis=(-2, -1))


@pytest.mark.parametrize(
    ("metric", "options", "words"),
    [
        (frobenius, {}, "the metric frobenius is a plain function of matrices; expected one"),
        (TENTH["hill"], {"conv": sr.conv_operator(4, 4)}, "whose spectrum is not tracked"),
        (sr.spectral_metric(lambda eigenvalues: eigenvalues[..., 0]), {}, "reads the whole"),
    ],
)
def test_what_a_tail_cannot_be_is_refused(metric, options, words):
    with pytest.raises(ValueError, match=words):
        sr.add_spectral_penalty(metric, 1.0, tracking="tail", **options)


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_too_much_of_a_small_matrix_is_decomposed(shape):
    params = {"fc": {"kernel": jnp.asarray(heavy(shape), jnp.float32)}}
    metric = sr.spectral_metric(sr.smooth_hill(low=0.1, high=0.5))
    ((gradient, state),) = run(metric, [params], tracking="tail")
    assert tail_of(state).vectors.shape == (12, 0)
    value, exact = jax.value_and_grad(metric)(params["fc"]["kernel"])
    assert state.penalty == pytest.approx(float(value), rel=1e-5)
    np.testing.assert_allclose(gradient, exact, rtol=1e-4, atol=1e-6)


def test_metrics_of_the_whole_spectrum_are_refused():
    with pytest.raises(ValueError, match="'tail' and the metric matrix_entropy reads the whole"):
        sr.add_spectral_penalty(sr.matrix_entropy, 1.0, tracking="tail")
    with pytest.raises(ValueError, match="tracking is 'top'; expected exact, warm or tail"):
        sr.add_spectral_penalty(sr.alpha, 1.0, tracking="top")


@pytest.mark.parametrize("case", DEGENERATE)
def test_finite_on_degenerate_spectra(case):
    W = np.kron(np.eye(6), DEGENERATE[case])
    params = {"fc": {"kernel": jnp.asarray(W, jnp.float32)}}
    for gradient, state in run(TENTH["hill"], [params] * 2, tracking="tail"):
        assert jnp.isfinite(gradient).all()
        assert jnp.isfinite(state.penalty)


def test_a_step_that_is_not_finite_is_seen_and_left_behind():
    params = next(drift((60, 48), 1))
    bad = jax.tree.map(lambda W: W.at[0, 0].set(jnp.nan), params)
    (*_, (_, first)), (*_, (_, last)) = (
        run(TENTH["hill"], trees, tracking="tail")
        for trees in ([params, bad], [params, bad, params])
    )
    assert jnp.isnan(first.penalty)
    assert last.penalty == pytest.approx(float(TENTH["hill"](params["fc"]["kernel"])), rel=1e-2)


def test_stacks_norms_and_held_steps():
    stack = jnp.stack([jnp.asarray(heavy((60, 48), seed), jnp.float32) for seed in range(3)])
    ((gradient, state),) = run(
        TENTH["distance"], [{"fc": {"kernel": stack}}], tracking="tail", every=2
    )
    expected, exact = jax.value_and_grad(lambda W: TENTH["distance"](W).sum())(stack)
    assert state.penalty == pytest.approx(float(expected), abs=5e-4)
    assert cosine(gradient, exact) > 0.99
    ((_, state),) = run(sr.log_stable_rank, [{"fc": {"kernel": stack[0]}}], tracking="tail")
    assert state.penalty == pytest.approx(float(sr.log_stable_rank(stack[0])), rel=1e-3)
