"""State dicts become Flax parameters that compute the same."""

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

import spectral_reg as sr

torch = pytest.importorskip("torch", reason="needs torch, which the tests' requirements install")


def test_names_and_layouts():
    state_dict = {
        "module.conv1.weight": np.zeros((16, 3, 5, 7)),
        "module.bn.weight": np.zeros(16),
        "module.bn.running_mean": np.zeros(16),
        "module.bn.num_batches_tracked": np.zeros(()),
        "module.blocks.0.fc.weight": np.zeros((10, 4)),
        "module.blocks.0.fc.bias": np.zeros(10),
        "module.tok_embeddings.weight": np.zeros((50, 8)),
    }
    params = sr.params_from_torch(state_dict)
    assert params["conv1"]["kernel"].shape == (5, 7, 3, 16)
    assert params["bn"].keys() == {"scale", "mean", "num_batches_tracked"}
    assert params["blocks"]["0"]["fc"]["kernel"].shape == (4, 10)
    assert params["tok_embeddings"]["embedding"].shape == (50, 8)


def test_prefixes_are_stripped_from_each_name_alike():
    assert sr.params_from_torch({"_orig_mod.module.a": np.ones(1)}).keys() == {"a"}
    assert sr.params_from_torch({"model.a": np.ones(1), "b": np.ones(1)}).keys() == {"a", "b"}
    assert sr.params_from_torch({"model.a": np.ones(1), "a": np.ones(1)}).keys() == {"model", "a"}


def test_linear_and_convolution_compute_the_same():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, (3, 5)), torch.nn.Flatten(), torch.nn.Linear(64, 6)
    )
    params = sr.params_from_torch(net.state_dict())
    images = torch.randn(2, 3, 6, 8)
    conv = nnx.Conv(3, 4, (3, 5), padding="VALID", rngs=nnx.Rngs(0))
    linear = nnx.Linear(64, 6, rngs=nnx.Rngs(0))
    for module, key in ((conv, "0"), (linear, "2")):
        nnx.update(module, params[key])
    x = conv(jnp.asarray(images.numpy()).transpose(0, 2, 3, 1))
    y = linear(x.transpose(0, 3, 1, 2).reshape(2, -1))
    np.testing.assert_allclose(y, net(images).detach().numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_are_read_exactly(dtype):
    tensor = torch.randn(4, 3, dtype=torch.float64).to(dtype)
    kernel = sr.params_from_torch({"fc.weight": tensor})["fc"]["kernel"]
    assert kernel.dtype == (ml_dtypes.bfloat16 if dtype is torch.bfloat16 else tensor.numpy().dtype)
    np.testing.assert_array_equal(kernel.astype(np.float64), tensor.double().numpy().T)


def test_spectra_survive_the_conversion():
    """Metrics of the converted weights are those that torch computes."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(60, 40)
    spectrum = sr.layer_spectra(sr.params_from_torch({"fc.weight": layer.weight}))["fc/kernel"]
    expected = torch.linalg.svdvals(layer.weight.detach().double()) ** 2
    np.testing.assert_allclose(spectrum, expected, rtol=1e-5)


def test_bad_state_dicts():
    with pytest.raises(TypeError, match="'epoch' is of type int; expected a tensor"):
        sr.params_from_torch({"epoch": 3})
    with pytest.raises(ValueError, match=r"'a\.b\.c' is inside 'b'"):
        sr.params_from_torch({"a.b": np.ones(1), "a.b.c": np.ones(1)})
    with pytest.raises(ValueError, match="is 'scale' in Flax, and so is another"):
        sr.params_from_torch({"a.scale": np.ones(1), "a.weight": np.ones(1)})
