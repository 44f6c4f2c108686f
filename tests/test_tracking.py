"""Warm tracking against the exact penalty, along a drift of the weights."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from matrices import DEGENERATE

import spectral_reg as sr
from spectral_reg import _tracked_norms as tracked_norms
from spectral_reg import _tracking as tracking

METRICS = {
    "alpha": sr.alpha,
    "matrix_entropy": sr.matrix_entropy,
    "target": sr.target(sr.alpha, 2.0),
    "log_stable_rank": sr.log_stable_rank,
    "spectral_norm": sr.spectral_norm,
    "hinge": sr.hinge(sr.stable_rank, above=1.0),
}


def drift(shape, num_steps, noise=0.003):
    """Weights that move as in training: noise, and signal along a few directions."""
    rng = np.random.default_rng(0)
    W = rng.standard_normal(shape)
    directions = [(rng.standard_normal(shape[0]), rng.standard_normal(shape[1])) for _ in range(3)]
    for _ in range(num_steps):
        yield {"fc": {"kernel": jnp.asarray(W, jnp.float32)}}
        W = W + noise * rng.standard_normal(shape)
        for strength, (left, right) in enumerate(directions, 1):
            W = W + 2e-3 * strength * np.outer(left, right)


def run(metric, trees, **options):
    transformation = sr.add_spectral_penalty(metric, 1.0, **options)
    state, update = None, jax.jit(transformation.update)
    for params in trees:
        state = transformation.init(params) if state is None else state
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, state = update(zeros, state, params)
        yield updates["fc"]["kernel"], state


def cosine(a, b):
    a, b = a.astype(jnp.float32), b.astype(jnp.float32)
    return float(jnp.vdot(a, b) / (jnp.linalg.norm(a) * jnp.linalg.norm(b)))


@pytest.mark.parametrize("name", METRICS)
def test_tracks_the_exact_penalty(name):
    trees = list(drift((160, 60), 60))
    exact = run(METRICS[name], trees)
    warm = run(METRICS[name], trees, tracking="warm")
    for (gradient, state), (tracked, tracked_state) in zip(exact, warm, strict=True):
        assert tracked_state.penalty == pytest.approx(float(state.penalty), rel=2e-3)
        assert cosine(gradient, tracked) > 0.995


def test_stays_close_in_a_dense_bulk():
    # Small gaps amplify what rotations leave of orthogonality: to first order they are 0.004 off.
    trees = list(drift((600, 200), 25, noise=0.005))
    exact, warm = run(sr.alpha, trees), run(sr.alpha, trees, tracking="warm")
    for (_, state), (_, tracked) in zip(exact, warm, strict=True):
        assert tracked.penalty == pytest.approx(float(state.penalty), abs=1e-3)


def decompositions(jaxpr, conditional=False):
    """Size of each eigendecomposition, and whether it stands inside a condition."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "eigh":
            yield equation.invars[0].aval.shape[-1], conditional
        inside = conditional or equation.primitive.name == "cond"
        for value in jax.tree.leaves(equation.params, is_leaf=lambda x: hasattr(x, "eqns")):
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                yield from decompositions(inner, inside)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("alpha", {(20, True)}), ("log_stable_rank", {(tracked_norms.TOP, False)})],
)
def test_decomposes_the_matrix_only_to_refresh(name, expected):
    params = next(drift((30, 20), 1))
    transformation = sr.add_spectral_penalty(METRICS[name], 1.0, tracking="warm")
    jaxpr = jax.make_jaxpr(transformation.update)(params, transformation.init(params), params)
    assert set(decompositions(jaxpr.jaxpr)) == expected


def test_refreshes_where_the_weights_have_jumped():
    rng = np.random.default_rng(1)
    trees = [
        {"fc": {"kernel": jnp.asarray(rng.standard_normal((40, 20)), jnp.float32)}}
        for _ in range(3)
    ]
    for params, (gradient, state) in zip(trees, run(sr.alpha, trees, tracking="warm"), strict=True):
        W = params["fc"]["kernel"]
        assert state.penalty == pytest.approx(float(sr.alpha(W)), rel=1e-5)
        np.testing.assert_allclose(gradient, jax.grad(sr.alpha)(W), rtol=1e-3, atol=1e-4)


def test_finds_a_new_top_direction():
    rng = np.random.default_rng(0)
    noise = jnp.asarray(rng.standard_normal((60, 30)), jnp.float32)
    spike = jnp.asarray(np.outer(rng.standard_normal(60), rng.standard_normal(30)), jnp.float32)
    trees = [{"fc": {"kernel": noise + float(step > 0) * spike}} for step in range(12)]
    *_, (_, state) = run(sr.spectral_norm, trees, tracking="warm")
    assert state.penalty == pytest.approx(float(sr.spectral_norm(noise + spike)), rel=1e-4)


@pytest.mark.parametrize("case", DEGENERATE)
@pytest.mark.parametrize("name", ["alpha", "log_stable_rank"])
def test_finite_on_degenerate_spectra(name, case):
    params = {"fc": {"kernel": jnp.asarray(DEGENERATE[case], jnp.float32)}}
    for gradient, state in run(METRICS[name], [params] * 3, tracking="warm"):
        assert jnp.isfinite(gradient).all()
        # Tracked eigenvalues below 1e-7 lambda_max are noise, which the alpha of rank one sees.
        if (name, case) != ("alpha", "rank one"):
            expected = float(METRICS[name](params["fc"]["kernel"]))
            assert state.penalty == pytest.approx(expected, abs=1e-4)


def test_nan_in_nan_out():
    params = next(drift((12, 8), 1))
    bad = {"fc": {"kernel": params["fc"]["kernel"].at[0, 0].set(jnp.nan)}}
    for name in ("alpha", "log_stable_rank"):
        *_, (_, state) = run(METRICS[name], [params, bad], tracking="warm")
        assert jnp.isnan(state.penalty)


@pytest.mark.parametrize("conv", ["slices", "flatten", "pooled"])
@pytest.mark.parametrize("name", ["alpha", "log_stable_rank"])
def test_convolutions(name, conv):
    rng = np.random.default_rng(0)
    kernel = jnp.asarray(rng.standard_normal((2, 3, 20, 12)), jnp.bfloat16)
    params = {"fc": {"kernel": kernel}, "head": {"kernel": kernel[0, 0]}}
    ((gradient, state),) = run(METRICS[name], [params], tracking="warm", conv=conv)
    penalty = jax.value_and_grad(lambda p: sr.spectral_penalty(p, METRICS[name], conv=conv))
    exact, expected = jax.jit(penalty)(params)
    assert state.penalty == pytest.approx(float(exact), rel=1e-3)
    assert gradient.dtype == jnp.bfloat16
    assert cosine(gradient, expected["fc"]["kernel"]) > 0.999


def test_every_and_warm_together():
    trees = list(drift((30, 20), 7))
    for step, (gradient, _) in enumerate(run(sr.alpha, trees, tracking="warm", every=3)):
        source = trees[step - step % 3]["fc"]["kernel"]
        assert cosine(gradient, jax.grad(sr.alpha)(source)) > 0.99


@pytest.mark.usefixtures("promoted_types")
def test_a_resumed_run_follows_the_same_trajectory(tmp_path):
    optimizer = optax.chain(
        sr.add_spectral_penalty(sr.alpha, 0.1, tracking="warm", every=2), optax.adam(1e-2)
    )

    @jax.jit
    def step(params, state):
        gradient = jax.tree.map(lambda W: W - 1, params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    params = next(drift((20, 12), 1))
    state = optimizer.init(params)
    for count in range(8):
        if count == 3:
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(tmp_path / "run", (params, state))
                checkpointer.wait_until_finished()
                resumed = checkpointer.restore(tmp_path / "run", (params, state))
        params, state = step(params, state)
    for _ in range(5):
        resumed = step(*resumed)
    jax.tree.map(np.testing.assert_array_equal, resumed, (params, state))


def test_a_plain_function_cannot_be_tracked():
    def mean_square(W):
        return jnp.mean(W**2, axis=(-2, -1))

    with pytest.raises(ValueError, match="mean_square is a plain function"):
        sr.add_spectral_penalty(mean_square, 1.0, tracking="warm")


@pytest.mark.parametrize("size", [40, 41])
def test_tells_close_neighbours_apart(size):
    # Only the two eigenvalues about which alpha's gradient jumps are close, and their vectors turn
    # by half a right angle; the gradient follows at once.
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.standard_normal((100, size)))
    right, _ = np.linalg.qr(rng.standard_normal((size, size)))
    values = np.geomspace(1, 0.2, size)
    edge = size // 2
    values[edge] = values[edge - 1] * (1 - 1e-5)
    turned = right.copy()
    turned[:, edge - 1] = (right[:, edge - 1] + right[:, edge]) / np.sqrt(2)
    turned[:, edge] = (right[:, edge] - right[:, edge - 1]) / np.sqrt(2)
    trees = [
        {"fc": {"kernel": jnp.asarray(left * values @ vectors.T, jnp.float32)}}
        for vectors in (right, turned)
    ]
    *_, (gradient, _) = run(sr.alpha, trees, tracking="warm")
    assert cosine(gradient, jax.grad(sr.alpha)(trees[-1]["fc"]["kernel"])) > 0.9999


def test_sweeps_again_where_vectors_turn_far():
    trees = list(drift((600, 200), 60, noise=0.005))[::6]
    exact, warm = run(sr.alpha, trees), run(sr.alpha, trees, tracking="warm")
    for (gradient, state), (tracked, tracked_state) in zip(exact, warm, strict=True):
        assert tracked_state.penalty == pytest.approx(float(state.penalty), abs=5e-4)
        assert cosine(gradient, tracked) > 0.999


def test_stays_orthogonal_at_the_largest_rotation(float64):
    angles = np.random.default_rng(0).standard_normal((200, 200))
    angles = angles - angles.T
    angles *= tracking.MAX_ROTATION / np.sqrt(np.square(angles).sum() / 200)
    V = tracking._rotate(jnp.eye(200), jnp.asarray(angles))
    # Without the term of third order they are 1e-7 off.
    np.testing.assert_allclose(V.T @ V, np.eye(200), atol=1e-10)


def test_follows_the_top_of_a_flat_spectrum():
    # A penalty on the norm brings the largest eigenvalues together; they cross all the time.
    rng = np.random.default_rng(0)
    left, _ = np.linalg.qr(rng.standard_normal((200, 60)))
    right, _ = np.linalg.qr(rng.standard_normal((60, 60)))
    values = np.concatenate([np.full(4, 2.0), np.linspace(1.9, 0.1, 56)])
    trees = []
    for _ in range(40):
        values = values + 0.005 * rng.standard_normal(60)
        turn, _ = np.linalg.qr(np.eye(60) + 2e-3 * rng.standard_normal((60, 60)))
        right = right @ turn
        trees.append({"fc": {"kernel": jnp.asarray(left * values @ right.T, jnp.float32)}})
    for params, (_, state) in zip(
        trees, run(sr.spectral_norm, trees, tracking="warm"), strict=True
    ):
        exact = np.linalg.svd(params["fc"]["kernel"], compute_uv=False)[0]
        assert state.penalty == pytest.approx(exact, abs=5e-4)
