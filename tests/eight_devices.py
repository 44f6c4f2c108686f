"""Checks on a mesh of eight devices; test_sharding.py runs them in a process of their own."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from matrices import with_singular_values

import spectral_reg as sr
from spectral_reg import _eigenvalues

TYPES = {"explicit": AxisType.Explicit, "auto": AxisType.Auto}
MATRICES = {
    "rows": ((64, 192), (("x", "y"), None)),
    "columns": ((64, 192), (None, ("x", "y"))),
    "rows, tall": ((192, 64), (("x", "y"), None)),
    "columns, tall": ((192, 64), (None, ("y", "x"))),
    "fsdp rows": ((192, 64), ("x", None)),
    "fsdp columns": ((192, 64), (None, "x")),
    "tensor": ((192, 64), ("x", "y")),
    "tensor transposed": ((64, 192), ("y", "x")),
    "replicated": ((64, 192), (None, None)),
    # Three columns on each device, of 36 rows that 8 does not divide.
    "uneven": ((36, 24), (None, ("x", "y"))),
}
STACKS = {
    "stack rows": ((12, 32, 96), (None, "x", None)),
    "stack columns": ((12, 32, 96), (None, None, ("x", "y"))),
    "stack tensor": ((12, 96, 32), (None, "y", "x")),
    "stack layers": ((12, 96, 32), ("y", None, "x")),
    "stack of stacks": ((2, 3, 32, 96), (None, None, "x", "y")),
}
METRICS = {
    "alpha": sr.alpha,
    "log_stable_rank": sr.log_stable_rank,
    "target": sr.target(sr.matrix_entropy, 0.5),
}


def weights(layouts, seed=0, noise=0.0, dtype=np.float32):
    """Matrices whose eigenvalues stand apart: where they do not, float32 leaves vectors open."""
    rng = np.random.default_rng(seed)
    tree = {}
    for name, (shape, _) in layouts.items():
        stack = [
            with_singular_values(rng, shape[-2:], np.geomspace(3, 0.3, min(shape[-2:])))
            for _ in range(math.prod(shape[:-2]))
        ]
        W = np.reshape(stack, shape)
        W = W + noise * W.std() * rng.standard_normal(shape)
        tree[name] = {"kernel": W.astype(dtype)}
    return tree


def on_mesh(tree, kind, layouts):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(TYPES[kind],) * 2)
    return {
        name: {"kernel": jax.device_put(leaf["kernel"], NamedSharding(mesh, P(*layouts[name][1])))}
        for name, leaf in tree.items()
    }


def assert_no_full_weight(compiled, tree):
    """No collective gives a whole weight, or a whole matrix of a stack, in any order of axes."""
    full = set()
    for leaf in jax.tree.leaves(tree):
        full |= {tuple(sorted(leaf.shape)), tuple(sorted(leaf.shape[-2:]))}
    for results in re.findall(r"= (.*?) all-(?:gather|reduce)(?:-start)?\(", compiled.as_text()):
        for dimensions in re.findall(r"\w+\[([\d,]+)\]", results):
            shape = tuple(sorted(int(length) for length in dimensions.split(",") if length != "1"))
            assert shape not in full, f"gathers {results}"


def steps(trees, metric, **options):
    """Updates and penalty of each step after the first tree, and the compiled update."""
    transformation = sr.add_spectral_penalty(metric, 1.0, **options)
    state = transformation.init(trees[0])
    update = jax.jit(transformation.update).lower(trees[0], state, trees[0]).compile()
    results = []
    for params in trees[1:]:
        updates, state = update(jax.tree.map(jnp.zeros_like, params), state, params)
        results.append((updates, float(state.penalty)))
    return results, update


def check(layouts, kind, metric, **options):
    # In float32 one layout of fifteen differed by 1.2e-5: conjugate gradients carry the rounding
    # of one step into the directions of the next.
    wide = options.get("tracking") == "warm" and hasattr(metric, "of_norms")
    with jax.enable_x64(wide):
        _check(layouts, kind, metric, np.float64 if wide else np.float32, **options)


def _check(layouts, kind, metric, dtype, **options):
    # Warm vectors start from other weights, where the residual is no rounding either.
    trees = [weights(layouts, noise=noise, dtype=dtype) for noise in (0.0, 0.01, 0.013)]
    results, update = steps([on_mesh(tree, kind, layouts) for tree in trees], metric, **options)
    expected, _ = steps([jax.tree.map(jnp.asarray, tree) for tree in trees], metric, **options)
    for (updates, penalty), (expected_updates, expected_penalty) in zip(
        results, expected, strict=True
    ):
        assert penalty == pytest.approx(expected_penalty, rel=1e-5)
        for name in layouts:
            a, b = (np.asarray(tree[name]["kernel"]) for tree in (updates, expected_updates))
            assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b), name
    assert_no_full_weight(update, {name: trees[0][name] for name in layouts})


@pytest.mark.parametrize(
    ("kind", "metric", "tracking"),
    [
        ("explicit", "alpha", "exact"),
        ("explicit", "log_stable_rank", "warm"),
        ("auto", "alpha", "exact"),
        ("auto", "log_stable_rank", "warm"),
    ],
)
def test_equals_one_device(kind, metric, tracking):
    layouts = {name: MATRICES[name] for name in ("rows", "columns")}
    check(layouts, kind, METRICS[metric], tracking=tracking)


# Each takes half a minute, all of it compilation: every two of the three together, not all three.
@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "metric", "tracking"),
    [
        ("explicit", "alpha", "exact"),
        ("auto", "alpha", "warm"),
        ("explicit", "log_stable_rank", "warm"),
        ("auto", "log_stable_rank", "exact"),
        ("explicit", "target", "exact"),
        ("auto", "target", "warm"),
    ],
)
def test_every_layout_equals_one_device(kind, metric, tracking):
    check({**MATRICES, **STACKS}, kind, METRICS[metric], tracking=tracking)


@pytest.mark.slow
@pytest.mark.parametrize("tracking", ["exact", "warm"])
@pytest.mark.parametrize("kind", TYPES)
def test_a_stack_of_twelve_wide_layers(kind, tracking):
    layouts = {"up": ((12, 128, 512), (None, "x", "y")), "down": ((12, 512, 128), (None, "y", "x"))}
    check(layouts, kind, sr.alpha, tracking=tracking)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "cut"), [("explicit", ("x", "y")), ("auto", (None, ("x", "y")))])
def test_a_transformer_of_twelve_layers(kind, cut):
    shape = (12, 1024, 4096)
    W = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    placed = on_mesh({"up": {"kernel": W}}, kind, {"up": (shape, (None, *cut))})
    transformation = sr.add_spectral_penalty(sr.alpha, 1.0)
    state, zeros = transformation.init(placed), jax.tree.map(jnp.zeros_like, placed)
    update = jax.jit(transformation.update).lower(zeros, state, placed).compile()
    assert_no_full_weight(update, placed)
    updates, state = update(zeros, state, placed)
    value_and_gradient = jax.jit(jax.value_and_grad(sr.alpha))
    # One by one: two at a time would hang in a program of several CPU devices.
    expected = [value_and_gradient(jnp.asarray(layer)) for layer in W]
    assert state.penalty == pytest.approx(sum(float(value) for value, _ in expected), rel=1e-5)
    for layer, (_, gradient) in zip(np.asarray(updates["up"]["kernel"]), expected, strict=True):
        # Neighbours among 1024 eigenvalues differ by little more than float32 resolves.
        assert np.linalg.norm(layer - gradient) <= 1e-3 * np.linalg.norm(gradient)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_held_between_steps(kind):
    check({"tensor": MATRICES["tensor"]}, kind, sr.alpha, tracking="warm", every=2)


@pytest.mark.parametrize(
    ("metric", "options"),
    [
        ("log_stable_rank", {"tracking": "warm", "every": 2}),
        ("log_stable_rank", {"every": 2}),
        ("alpha", {"tracking": "warm"}),
    ],
)
def test_a_state_has_the_types_of_the_one_after(metric, options):
    """As in Optax's own tests: a scan over steps demands it."""
    layouts = {"fsdp rows": MATRICES["fsdp rows"], "stack": STACKS["stack layers"]}
    tree = on_mesh(weights(layouts), "explicit", layouts)
    transformation = sr.add_spectral_penalty(METRICS[metric], 1.0, **options)
    with jax.set_mesh(jax.tree.leaves(tree)[0].sharding.mesh):
        states = [transformation.init(tree), jax.jit(transformation.init)(tree)]
        _, after = jax.jit(transformation.update)(tree, states[0], tree)
    types = [jax.tree.map(jax.typeof, state) for state in (*states, after)]
    assert types[0] == types[1]
    assert types[0] == types[2]


CHAINS = {
    "watch": sr.watch_spectra([sr.alpha, sr.stable_rank]),
    "cap, warm": sr.cap_spectral_norm(2.0),
    "cap, soft": sr.cap_spectral_norm(2.0, soft=True),
}


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("chain", CHAINS)
def test_watches_and_caps_gather_no_weight(chain, kind):
    layouts = {name: MATRICES[name] for name in ("rows", "tensor")}
    tree, transformation = weights(layouts), CHAINS[chain]
    after = []
    for params in (on_mesh(tree, kind, layouts), jax.tree.map(jnp.asarray, tree)):
        state, zeros = transformation.init(params), jax.tree.map(jnp.zeros_like, params)
        update = jax.jit(transformation.update).lower(zeros, state, params).compile()
        if not after:
            assert_no_full_weight(update, tree)
        updates, state = update(zeros, state, params)
        after.append([updates, state.values if chain == "watch" else {}])
    for left, right in zip(*map(jax.tree.leaves, after), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-5)


def decompositions(tree, metric, monkeypatch):
    """Shapes of what is decomposed for a penalty and its gradient."""
    calls = []
    eigenvectors = _eigenvalues.eigenvectors

    def counted(X):
        jax.debug.callback(lambda X: calls.append(X.shape), X)
        return eigenvectors(X)

    monkeypatch.setattr(_eigenvalues, "eigenvectors", counted)
    jax.block_until_ready(jax.jit(jax.grad(sr.spectral_penalty), static_argnums=1)(tree, metric))
    jax.effects_barrier()
    return calls


@pytest.mark.parametrize("kind", TYPES)
def test_decomposes_each_matrix_of_a_stack_once(kind, monkeypatch):
    layouts = {"stack": STACKS["stack columns"]}
    tree = on_mesh(weights(layouts), kind, layouts)
    assert decompositions(tree, sr.alpha, monkeypatch) == [(32, 32)] * 12


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_bfloat16_gradient_lies_as_the_weight(kind):
    tree = jax.tree.map(lambda W: W.astype(jnp.bfloat16), weights({"tensor": MATRICES["tensor"]}))
    placed = on_mesh(tree, kind, MATRICES)["tensor"]["kernel"]
    gradient = jax.jit(jax.grad(sr.alpha))(placed)
    assert gradient.dtype == jnp.bfloat16
    assert gradient.sharding.is_equivalent_to(placed.sharding, 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_nan_in_nan_out(kind):
    tree = weights({"stack rows": STACKS["stack rows"]})
    tree["stack rows"]["kernel"][0, 0, 0] = np.nan
    values = np.asarray(sr.eigenvalues(on_mesh(tree, kind, STACKS)["stack rows"]["kernel"]))
    assert np.isnan(values[0]).all()
    assert np.isfinite(values[1:]).all()


def test_the_mesh_of_a_context_is_seen():
    W = weights({"fc": ((64, 32), ())})["fc"]["kernel"]
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(W, NamedSharding(mesh, P(None, "x")))
        np.testing.assert_allclose(
            jax.jit(sr.eigenvalues)(sharded), sr.eigenvalues(jnp.asarray(W)), rtol=1e-5
        )


def test_a_mesh_of_two_kinds_of_axes_is_refused():
    kinds = (AxisType.Explicit, AxisType.Auto)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=kinds)
    W = jax.device_put(np.ones((8, 4), np.float32), NamedSharding(mesh, P("x")))
    with pytest.raises(ValueError, match="expected all Explicit or all Auto"):
        sr.eigenvalues(W)


@pytest.mark.parametrize("num_each", [1, 2])
def test_inside_shard_map_a_block_is_a_matrix_of_its_own(num_each):
    mesh = jax.make_mesh((8,), ("x",))
    W = weights({"heads": ((8 * num_each, 12, 6), ())})["heads"]["kernel"]
    spec = P("x")
    placed = jax.device_put(W, NamedSharding(mesh, spec))
    values = jax.jit(jax.shard_map(sr.eigenvalues, in_specs=spec, out_specs=spec, mesh=mesh))(
        placed
    )
    np.testing.assert_allclose(values, sr.eigenvalues(jnp.asarray(W)), rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_vmap(kind):
    layouts = {"stack rows": STACKS["stack rows"]}
    tree = weights(layouts)
    W, alone = on_mesh(tree, kind, layouts)["stack rows"]["kernel"], tree["stack rows"]["kernel"]
    value_and_gradient = jax.jit(jax.vmap(jax.value_and_grad(sr.alpha)))
    for a, b in zip(value_and_gradient(W), value_and_gradient(jnp.asarray(alone)), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.slow
def test_the_complex_matrices_of_a_convolution():
    kernel = np.random.default_rng(0).standard_normal((3, 3, 8, 16)).astype(np.float32)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)
    placed = jax.device_put(kernel, NamedSharding(mesh, P(None, None, "y", "x")))

    def entropy(kernel):
        return sr.matrix_entropy.of_eigenvalues(sr.conv_operator(4, 4)(kernel))

    value_and_gradient = jax.jit(jax.value_and_grad(entropy))
    with jax.set_mesh(mesh):
        sharded = value_and_gradient(placed)
    for a, b in zip(sharded, value_and_gradient(jnp.asarray(kernel)), strict=True):
        a, b = np.asarray(a), np.asarray(b)
        assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_forward_mode_is_refused(kind):
    W = on_mesh(weights({"rows": MATRICES["rows"]}), kind, MATRICES)["rows"]["kernel"]
    with pytest.raises(TypeError, match="custom_vjp"):
        jax.jvp(sr.alpha, (W,), (W,))


TENTH = sr.spectral_metric(sr.smooth_hill(low=0.05, high=0.1))


@pytest.mark.parametrize("kind", TYPES)
def test_the_tail_of_a_sharded_matrix(kind):
    check_tail({name: MATRICES[name] for name in ("rows", "columns, tall", "tensor")}, kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_the_tail_of_every_layout(kind):
    check_tail({**MATRICES, **STACKS}, kind)


def check_tail(layouts, kind):
    # Where an iteration stops depends on the last digits: not to be held against one device, but
    # against the spectrum.
    tree = weights(layouts)
    transformation = sr.add_spectral_penalty(TENTH, 1.0, tracking="tail")
    placed = on_mesh(tree, kind, layouts)
    state, zeros = transformation.init(placed), jax.tree.map(jnp.zeros_like, placed)
    update = jax.jit(transformation.update).lower(zeros, state, placed).compile()
    assert_no_full_weight(update, tree)
    for _ in range(2):
        updates, state = update(zeros, state, placed)
    (values,) = state.values.values()
    value_and_gradient = jax.jit(jax.value_and_grad(lambda W: TENTH(W).sum()))
    for name in layouts:
        W = jnp.asarray(tree[name]["kernel"])
        value, gradient = value_and_gradient(W)
        assert jnp.sum(values[f"{name}/kernel"]) == pytest.approx(float(value), rel=1e-2), name
        found = np.asarray(updates[name]["kernel"])
        assert np.vdot(found, gradient) > 0.99 * np.linalg.norm(found) * np.linalg.norm(gradient)


@pytest.mark.parametrize("kind", TYPES)
def test_sums_of_a_sharded_matrix_by_products(kind):
    layouts = {name: MATRICES[name] for name in ("rows", "columns, tall", "uneven")}
    for metric in (sr.nuclear_norm, sr.matrix_entropy, sr.orthogonality):
        check(layouts, kind, sr.products_only(metric))


SAMPLED = sr.sampled(sr.alpha, key=jax.random.key(0), num_blocks=5, size=8, aspect=1.5)


@pytest.mark.parametrize("kind", TYPES)
def test_blocks_of_a_sharded_matrix(kind):
    check({name: MATRICES[name] for name in ("rows", "columns", "uneven")}, kind, SAMPLED)


@pytest.mark.parametrize("kind", TYPES)
def test_decomposes_each_block_once(kind, monkeypatch):
    layouts = {"tensor": MATRICES["tensor"]}
    tree = on_mesh(weights(layouts), kind, layouts)
    assert decompositions(tree, SAMPLED, monkeypatch) == [(8, 8)] * 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", TYPES)
def test_blocks_of_a_sharded_stack(kind):
    check({"tensor": MATRICES["tensor"], **STACKS}, kind, SAMPLED)
