"""Checks on a mesh of eight devices; test_sharding.py runs them in a process of their own."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import spectral_reg as sr
from spectral_reg import _eigenvalues

TYPES = {"explicit": AxisType.Explicit, "auto": AxisType.Auto}
LAYOUTS = {
    "rows": PartitionSpec(("x", "y"), None),
    "columns": PartitionSpec(None, ("x", "y")),
    "fsdp rows": PartitionSpec("x", None),
    "fsdp columns": PartitionSpec(None, "x"),
    "tensor": PartitionSpec("x", "y"),
    "tensor transposed": PartitionSpec("y", "x"),
    "replicated": PartitionSpec(),
}
METRICS = {
    "alpha": sr.alpha,
    "log_stable_rank": sr.log_stable_rank,
    "target": sr.target(sr.matrix_entropy, 0.5),
}


def weights(shapes, seed=0):
    rng = np.random.default_rng(seed)
    return {
        name: {"kernel": rng.standard_t(4, shape).astype(np.float32)}
        for name, shape in shapes.items()
    }


def on_mesh(tree, kind, spec):
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=(TYPES[kind],) * 2)

    def place(leaf):
        stack = (None,) * (leaf.ndim - 2) if len(spec) == 2 else ()
        return jax.device_put(leaf, NamedSharding(mesh, PartitionSpec(*stack, *spec)))

    return jax.tree.map(place, tree)


def on_one_device(tree):
    return jax.tree.map(jnp.asarray, tree)


def collectives(compiled, kinds="all-gather|all-reduce"):
    """The shape of each result of the collective operations."""
    pattern = rf"= (\S+|\([^=]*\)) (?:{kinds})(?:-start)?\("
    for results in re.findall(pattern, compiled.as_text()):
        for dimensions in re.findall(r"\w+\[([\d,]*)\]", results):
            yield tuple(int(n) for n in dimensions.split(",") if n and n != "1")


def assert_no_full_weight(compiled, tree):
    full = {tuple(sorted(n for n in leaf.shape if n != 1)) for leaf in jax.tree.leaves(tree)}
    full |= {shape[-2:] if len(shape) == 2 else tuple(sorted(shape)) for shape in full}
    full |= {tuple(sorted(leaf.shape[-2:])) for leaf in jax.tree.leaves(tree)}
    gathered = [shape for shape in collectives(compiled) if tuple(sorted(shape)) in full]
    assert not gathered, f"gathered {gathered}"


def steps(tree, drifted, metric, **options):
    """Gradients, penalties and the compiled update, over two steps of a drifting model."""
    transformation = sr.add_spectral_penalty(metric, 1.0, **options)
    state = transformation.init(tree)
    update = jax.jit(transformation.update).lower(tree, state, tree).compile()
    results = []
    for params in (tree, drifted):
        zeros = jax.tree.map(jnp.zeros_like, params)
        updates, state = update(zeros, state, params)
        results.append((jax.tree.map(np.asarray, updates), float(state.penalty)))
    return results, update


def assert_same(results, expected):
    for (gradients, penalty), (expected_gradients, expected_penalty) in zip(
        results, expected, strict=True
    ):
        assert penalty == pytest.approx(expected_penalty, rel=1e-5)
        for a, b in zip(
            jax.tree.leaves(gradients), jax.tree.leaves(expected_gradients), strict=True
        ):
            assert np.linalg.norm(a - b) <= 1e-5 * np.linalg.norm(b)


def check(shapes, kind, spec, metric, **options):
    tree = weights(shapes)
    noise = weights(shapes, seed=1)
    drifted = jax.tree.map(lambda W, dW: W + np.float32(0.003) * dW, tree, noise)
    placed = on_mesh(tree, kind, spec), on_mesh(drifted, kind, spec)
    results, update = steps(*placed, metric, **options)
    expected, _ = steps(on_one_device(tree), on_one_device(drifted), metric, **options)
    assert_same(results, expected)
    assert_no_full_weight(update, tree)


@pytest.mark.parametrize("tracking", ["exact", "warm"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", TYPES)
def test_equals_one_device(kind, layout, metric, tracking):
    shapes = {"up": (64, 192), "down": (192, 64)}
    check(shapes, kind, LAYOUTS[layout], METRICS[metric], tracking=tracking)


STACKS = {
    "rows": PartitionSpec(None, "x", None),
    "columns": PartitionSpec(None, None, ("x", "y")),
    "tensor": PartitionSpec(None, "y", "x"),
    "layers": PartitionSpec("y", None, "x"),
}


@pytest.mark.parametrize("tracking", ["exact", "warm"])
@pytest.mark.parametrize("layout", STACKS)
@pytest.mark.parametrize("kind", TYPES)
def test_stack_equals_one_device(kind, layout, tracking):
    check({"mlp": (12, 32, 128)}, kind, STACKS[layout], sr.alpha, tracking=tracking)


@pytest.mark.parametrize("kind", TYPES)
def test_held_between_steps(kind):
    check({"fc": (32, 96)}, kind, LAYOUTS["tensor"], sr.alpha, tracking="warm", every=2)


@pytest.mark.parametrize("kind", TYPES)
def test_columns_that_the_devices_do_not_divide(kind):
    # 8 devices hold 2 columns each of 36 rows, which 8 does not divide.
    check({"fc": (36, 16)}, kind, LAYOUTS["columns"], sr.alpha)


@pytest.mark.parametrize("kind", TYPES)
def test_decomposes_each_matrix_of_a_stack_once(kind, monkeypatch):
    calls = []
    eigenvectors = _eigenvalues.eigenvectors

    def counted(X):
        jax.debug.callback(lambda X: calls.append(X.shape), X)
        return eigenvectors(X)

    monkeypatch.setattr(_eigenvalues, "eigenvectors", counted)
    tree = on_mesh(weights({"mlp": (12, 24, 40)}), kind, STACKS["rows"])
    jax.block_until_ready(jax.jit(jax.grad(sr.spectral_penalty), static_argnums=1)(tree, sr.alpha))
    jax.effects_barrier()
    assert calls == [(24, 24)] * 12


@pytest.mark.parametrize("kind", TYPES)
def test_bfloat16_gradient_lies_as_the_weight(kind):
    tree = jax.tree.map(lambda W: W.astype(jnp.bfloat16), weights({"fc": (64, 32)}))
    placed = on_mesh(tree, kind, LAYOUTS["tensor"])["fc"]["kernel"]
    gradient = jax.jit(jax.grad(sr.alpha))(placed)
    assert gradient.dtype == jnp.bfloat16
    assert gradient.sharding.is_equivalent_to(placed.sharding, 2)


@pytest.mark.parametrize("kind", TYPES)
def test_nan_in_nan_out(kind):
    tree = weights({"mlp": (2, 16, 24)})
    tree["mlp"]["kernel"][0, 0, 0] = np.nan
    values = sr.eigenvalues(on_mesh(tree, kind, STACKS["rows"])["mlp"]["kernel"])
    assert np.isnan(values[0]).all()
    assert np.isfinite(values[1]).all()


def test_the_mesh_of_a_context_is_seen():
    W = weights({"fc": (64, 32)})["fc"]["kernel"]
    mesh = jax.make_mesh((8,), ("x",), axis_types=(AxisType.Auto,))
    with jax.set_mesh(mesh):
        sharded = jax.device_put(W, NamedSharding(mesh, PartitionSpec(None, "x")))
        np.testing.assert_allclose(
            jax.jit(sr.eigenvalues)(sharded), sr.eigenvalues(jnp.asarray(W)), rtol=1e-5
        )


def test_a_mesh_of_two_kinds_of_axes_is_refused():
    kinds = (AxisType.Explicit, AxisType.Auto)
    mesh = jax.make_mesh((4, 2), ("x", "y"), axis_types=kinds)
    W = jax.device_put(np.ones((8, 4), np.float32), NamedSharding(mesh, PartitionSpec("x")))
    with pytest.raises(ValueError, match="expected all Explicit or all Auto"):
        sr.eigenvalues(W)


def test_inside_shard_map_a_block_is_a_matrix_of_its_own():
    mesh = jax.make_mesh((8,), ("x",))
    W = weights({"heads": (8, 12, 6)})["heads"]["kernel"]
    spec = PartitionSpec("x")
    placed = jax.device_put(W, NamedSharding(mesh, spec))
    values = jax.jit(jax.shard_map(sr.eigenvalues, in_specs=spec, out_specs=spec, mesh=mesh))(
        placed
    )
    np.testing.assert_allclose(values, sr.eigenvalues(jnp.asarray(W)), rtol=1e-5)
