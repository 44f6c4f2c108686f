"""One model, one report: in memory, in files of every form, as a state dict, in Flax's names."""

import pytest
from tiny_models import MODELS, tiny_model

import spectral_reg as sr
from fitting._checkpoints import open_checkpoint
from fitting._comparison._alignment import _common
from fitting._evaluation._configuration import read_configuration
from fitting._evaluation._layouts import plan
from fitting._evaluation._unit import spectra

pytestmark = [
    pytest.mark.slow,
    # Of transformers' own names, and of an optional kernel that is not there.
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]
# Grouped convolutions, whose groups only the configuration knows.
GROUPED = "pos_conv_embed"


def rows(source):
    """Kind, sides and largest eigenvalue of each matrix, by name and index.

    Names as transformers has them in memory: it renames some of them when it writes a file.
    """
    todo = plan(open_checkpoint(source), config=read_configuration(source))
    return {
        _common((unit.name, found.index)): (
            unit.kind, found.shape, pytest.approx(float(found.eigenvalues[0]), rel=1e-5, abs=1e-12)
        )
        for unit in todo.units
        for found in spectra(unit)
    }  # fmt: skip


def without_configuration(live, bare):
    """The rows of both but of weights that stay whole where no configuration cuts them."""
    whole = {name for (name, _), (kind, *_) in bare.items() if kind.startswith("fused")}
    whole |= {name for name, _ in bare if GROUPED in name or name.endswith("in_proj_qkvz/kernel")}
    kept = [
        {key: row for key, row in found.items() if key[0] not in whole} for found in (live, bare)
    ]
    return (*kept, whole)


@pytest.mark.parametrize("model_type", MODELS)
def test_one_model_has_one_report(model_type, tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch")
    transformers = pytest.importorskip(
        "transformers", reason="needs transformers, which the tests' requirements install"
    )
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    model = tiny_model(model_type)
    live = rows(model)
    model.save_pretrained(tmp_path / "file")
    model.save_pretrained(tmp_path / "shards", max_shard_size="60KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    torch_folder = tmp_path / "torch"
    model.config.save_pretrained(torch_folder)
    torch.save(model.state_dict(), torch_folder / "pytorch_model.bin")
    for form in ("file", "shards", "torch"):
        assert rows(tmp_path / form) == live, form
    state_dict = model.state_dict()
    for form in (state_dict, sr.params_from_torch(state_dict)):
        expected, found, whole = without_configuration(live, rows(form))
        assert found == expected
        assert len({name for name, _ in live} - whole) >= len(live) / 40  # nearly all is compared
