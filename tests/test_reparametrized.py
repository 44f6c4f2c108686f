"""Weights that a layer makes of what is trained: what multiplies is measured and penalized."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import fitting
import spectral_reg as sr

KEY = jax.random.key(0)
X = jax.random.normal(jax.random.key(1), (12,))


def linear():
    layer = eqx.nn.Linear(12, 10, use_bias=False, key=KEY)
    return eqx.tree_at(lambda layer: layer.weight, layer, 20 * layer.weight)


def scaled(g):
    return g * jnp.linspace(0.5, 2, g.size).reshape(g.shape)


def equinox_weight_norm():
    net = {"fc": eqx.nn.WeightNorm(linear())}
    net["fc"] = eqx.tree_at(lambda layer: layer.g, net["fc"], scaled(net["fc"].g))
    return net, "fc/layer/weight", lambda x: net["fc"](x)


def equinox_spectral_norm():
    net = {"fc": eqx.nn.SpectralNorm(linear(), "weight", inference=True, key=KEY)}
    model, state = eqx.nn.make_with_state(lambda: net["fc"])()
    return net, "fc/layer/weight", lambda x: model(x, state)[0]


def linen(wrapper, **options):
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            dense = nn.Dense(10, use_bias=False, kernel_init=nn.initializers.normal(3.0))
            return wrapper(dense)(x, **options)

    variables = Net().init(KEY, X)
    return variables, lambda x: Net().apply(variables, x)


def linen_weight_norm():
    variables, _ = linen(nn.WeightNorm)
    scale = variables["params"]["WeightNorm_0"]["Dense_0/kernel/scale"]
    variables["params"]["WeightNorm_0"]["Dense_0/kernel/scale"] = scaled(scale)

    def apply(x):
        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                return nn.WeightNorm(nn.Dense(10, use_bias=False))(x)

        return Net().apply(variables, x)

    return variables, "params/Dense_0/kernel", apply


def linen_spectral_norm():
    variables, apply = linen(nn.SpectralNorm, update_stats=False)
    return variables, "params/Dense_0/kernel", apply


def nnx_weight_norm():
    rngs = nnx.Rngs(0)
    net = nnx.WeightNorm(nnx.Linear(12, 10, use_bias=False, rngs=rngs), rngs=rngs)
    net.scales = nnx.data({path: scaled(scale) for path, scale in net.scales.items()})
    return net, "layer_instance/kernel", nnx.clone(net)


def nnx_spectral_norm():
    rngs = nnx.Rngs(0)
    net = nnx.SpectralNorm(nnx.Linear(12, 10, use_bias=False, rngs=rngs), rngs=rngs)
    return net, "layer_instance/kernel", lambda x: nnx.clone(net)(x, update_stats=False)


CASES = [equinox_weight_norm, equinox_spectral_norm, linen_weight_norm, linen_spectral_norm,
         nnx_weight_norm, nnx_spectral_norm]  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_multiplies_is_measured(case):
    net, name, apply = case()
    effective = jnp.stack([apply(row) for row in jnp.eye(X.size)]).T  # [out, in]
    matrices = sr.layer_matrices(net)
    assert list(matrices) == [name]
    W = matrices[name]
    np.testing.assert_allclose(W if W.shape[0] == 10 else W.T, effective, rtol=2e-5, atol=2e-6)
    assert sr.explain_layers(net)[name].rule.endswith("norm")
    report = fitting.evaluate(net, progress=False)
    (row,) = report.layers.to_dict("records")
    top = np.linalg.svd(np.asarray(effective, float), compute_uv=False)[0]
    assert row["spectral_norm"] == pytest.approx(top, rel=1e-5)


@pytest.mark.parametrize("case", [equinox_weight_norm, linen_weight_norm])
@pytest.mark.parametrize("options", [{}, {"every": 2}, {"tracking": "warm"}])
def test_the_gradient_goes_to_direction_and_length(case, options):
    net, _, _ = case()
    params = eqx.filter(net, eqx.is_inexact_array)

    # Tracked norms share the gradient among the eigenvalues near the top, and here several are.
    metric = sr.matrix_entropy if options.get("tracking") else sr.log_stable_rank

    def penalty(params):
        return sr.spectral_penalty(params, metric)

    expected = jax.grad(penalty)(params)
    assert all(float(jnp.max(jnp.abs(leaf))) > 1e-3 for leaf in jax.tree.leaves(expected))
    optimizer = sr.add_spectral_penalty(metric, 1.0, **options)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(optimizer.update)(zeros, optimizer.init(params), params)
    tolerance = 5e-2 if options.get("tracking") else 1e-4
    for found, leaf in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        assert float(jnp.linalg.norm(found - leaf)) <= tolerance * float(jnp.linalg.norm(leaf))


def test_the_rest_is_listed_and_never_measured():
    model, _ = eqx.nn.make_with_state(eqx.nn.SpectralNorm)(linear(), "weight", key=KEY)
    wrapped = nnx.WeightNorm(nnx.Linear(12, 10, rngs=nnx.Rngs(0)), rngs=nnx.Rngs(0))
    for tree, name in (
        ({"a": model, "fc": {"kernel": np.ones((3, 2))}}, "a/layer/weight"),
        ({"a": nnx.state(wrapped, nnx.Param), "fc": {"kernel": np.ones((3, 2))}},
         "a/layer_instance/kernel"),
    ):  # fmt: skip
        assert list(sr.layer_matrices(tree)) == ["fc/kernel"]
        assert "a layer around it makes the weight" in sr.explain_layers(tree)[name].rule
        with pytest.raises(ValueError, match=f"'{name}' is what a weight or spectral norm"):
            sr.layer_matrices(tree, mask=sr.by_path(name))
        skipped = fitting.evaluate(tree, progress=False).skipped.set_index("name")
        assert "a layer around it makes the weight" in skipped.loc[name, "reason"]


def test_layers_stacked_by_filter_vmap():
    keys = jax.random.split(KEY, 4)
    make = eqx.filter_vmap(lambda key: eqx.nn.WeightNorm(eqx.nn.Linear(12, 10, key=key)))
    stack = make(keys)
    W = sr.layer_matrices(stack)["layer/weight"]
    each = [
        sr.layer_matrices(jax.tree.map(lambda leaf, i=i: leaf[i], eqx.filter(stack, eqx.is_array)))
        for i in range(4)
    ]
    np.testing.assert_allclose(W, [one["layer/weight"] for one in each], rtol=1e-6)


def test_a_training_step_with_optax_keeps_both():
    net, _, _ = equinox_weight_norm()
    params = eqx.filter(net, eqx.is_inexact_array)
    optimizer = optax.chain(sr.add_spectral_penalty(sr.log_stable_rank, 1.0), optax.sgd(3.0))
    state, before = optimizer.init(params), sr.spectral_penalty(params, sr.log_stable_rank)
    step = jax.jit(optimizer.update)
    for _ in range(20):
        updates, state = step(jax.tree.map(jnp.zeros_like, params), state, params)
        params = optax.apply_updates(params, updates)
    assert sr.spectral_penalty(params, sr.log_stable_rank) < before - 0.05
