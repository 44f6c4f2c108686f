"""Which leaves of a model are its matrices, in every framework, and what they become."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import spectral_reg as sr

PARAMS = {
    "conv": {"kernel": np.ones((3, 3, 8, 16)), "bias": np.ones(16)},
    "norm": {"scale": np.ones((4, 16)), "bias": np.ones((4, 16))},
    "blocks": {"fc": {"kernel": np.ones((4, 10, 5)), "bias": np.ones((4, 5))}},
    "embed": {"embedding": np.ones((20, 6))},
}


class NnxNet(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.layers = nnx.List([nnx.Linear(4, 5, rngs=rngs)])


class LinenNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.BatchNorm(use_running_average=True)(nn.Conv(4, (3, 3))(x))
        return nn.Dense(5)(x)


class EquinoxNet(eqx.Module):
    conv: eqx.nn.Conv2d
    norm: eqx.nn.LayerNorm
    fc: eqx.nn.Linear

    def __init__(self, key):
        self.conv = eqx.nn.Conv2d(3, 4, 3, key=key)
        self.norm = eqx.nn.LayerNorm((2, 4))
        self.fc = eqx.nn.Linear(4, 5, key=key)


def shapes(params, **options):
    return {name: W.shape for name, W in sr.layer_matrices(params, **options).items()}


def test_default_takes_matrices_and_no_stacked_bias_or_scale():
    assert shapes(PARAMS) == {
        "blocks/fc/kernel": (4, 10, 5),
        "conv/kernel": (3, 3, 8, 16),
        "embed/embedding": (20, 6),
    }


def test_flatten_touches_convolutions_alone():
    assert shapes(PARAMS, conv="flatten") == {
        "blocks/fc/kernel": (4, 10, 5),
        "conv/kernel": (72, 16),
        "embed/embedding": (20, 6),
    }


def test_numpy_arrays_stay_numpy_in_their_precision():
    matrix = sr.layer_matrices(PARAMS)["conv/kernel"]
    assert isinstance(matrix, np.ndarray)
    assert matrix.dtype == np.float64


def test_nnx_state_module_and_pure_dict_have_the_same_paths():
    net = NnxNet(nnx.Rngs(0))
    expected = {"conv/kernel": (3, 3, 3, 4), "layers/0/kernel": (4, 5)}
    state = nnx.state(net, nnx.Param)
    for params in (net, state, nnx.to_pure_dict(state)):
        assert shapes(params) == expected


def test_linen_variables():
    variables = LinenNet().init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
    assert shapes(variables) == {
        "params/Conv_0/kernel": (3, 3, 3, 4),
        "params/Dense_0/kernel": (4, 5),
    }


def test_equinox_convolutions_have_their_matrix_in_front():
    net = EquinoxNet(jax.random.key(0))
    assert shapes(net) == {"conv/weight": (3, 3, 3, 4), "fc/weight": (5, 4)}
    slices = sr.layer_matrices(net)["conv/weight"]
    np.testing.assert_array_equal(slices[1, 2], net.conv.weight[:, :, 1, 2].T)


def test_spectra_of_slices_flatten_and_pooled():
    kernel = np.random.default_rng(0).standard_normal((3, 3, 8, 16)).astype(np.float32)
    params = {"conv": {"kernel": kernel}, "fc": {"kernel": kernel[0, 0]}}
    slices = np.linalg.svd(kernel, compute_uv=False) ** 2
    flat = np.linalg.svd(kernel.reshape(72, 16), compute_uv=False) ** 2
    pooled = np.sort(slices.ravel())[::-1]
    for conv, expected in (("slices", slices), ("flatten", flat), ("pooled", pooled)):
        spectra = sr.layer_spectra(params, conv=conv)
        np.testing.assert_allclose(spectra["conv/kernel"], expected, rtol=1e-4)
        np.testing.assert_allclose(spectra["fc/kernel"], slices[0, 0], rtol=1e-4)


def test_by_path_is_an_optax_mask():
    params = {"fc1": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}, "fc2": jnp.ones(2)}
    mask = sr.by_path("fc1/*", exclude=("*/bias",))
    expected = {"fc1": {"kernel": True, "bias": False}, "fc2": False}
    assert mask(params) == expected
    optimizer = optax.masked(optax.scale(0.0), mask)
    updates, _ = optimizer.update(params, optimizer.init(params))
    assert jnp.all(updates["fc1"]["kernel"] == 0)
    assert jnp.all(updates["fc1"]["bias"] == 1)


def test_by_path_fits_nnx_state_with_and_without_value():
    state = nnx.state(NnxNet(nnx.Rngs(0)), nnx.Param)
    mask = sr.by_path("layers/*/kernel")
    assert shapes(state, mask=mask) == {"layers/0/kernel": (4, 5)}
    # A mask made from the one form selects in the other: nnx.Optimizer uses both.
    assert shapes(nnx.to_pure_dict(state), mask=mask(state)) == {"layers/0/kernel": (4, 5)}


def test_a_mask_may_be_a_prefix():
    mask = {"conv": False, "norm": False, "blocks": {"fc": {"kernel": True, "bias": False}}}
    assert shapes(PARAMS, mask=mask | {"embed": True}) == {
        "blocks/fc/kernel": (4, 10, 5),
        "embed/embedding": (20, 6),
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"mask": sr.by_path("fc9/*")},
            r"'fc9/\*' matches no path; expected one that matches some of \['blocks/fc/bias'",
        ),
        (
            {"mask": lambda p: jax.tree.map(lambda _: False, p)},
            r"selects nothing; expected some of the paths",
        ),
        (
            {"mask": sr.by_path("conv/bias")},
            r"selects 'conv/bias' of shape \(16,\); expected matrices",
        ),
        ({"mask": {"conv": True}}, "0 entries for the parameter 'blocks/fc/bias'"),
        ({"conv": "sliced"}, "conv is 'sliced'; expected one of slices, flatten"),
        ({"conv": "pooled"}, "pooled spectra and those of conv_operator come from layer_spectra"),
    ],
)
def test_bad_selection(options, message):
    with pytest.raises(ValueError, match=message):
        sr.layer_matrices(PARAMS, **options)


def test_bad_trees():
    with pytest.raises(
        ValueError, match=r"has the name of a weight.*; expected some of the paths \['v'\]"
    ):
        sr.layer_matrices({"v": np.ones((2, 2))})
    with pytest.raises(TypeError, match="the mask has 3 for 'w'"):
        sr.layer_matrices({"w": np.ones((2, 2))}, mask={"w": 3})
