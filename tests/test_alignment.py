"""Models whose names differ, matrix beside matrix."""

import numpy as np
import pytest
from layouts import normal

import fitting

torch = pytest.importorskip("torch", reason="needs torch, which the tests' requirements install")


def network(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.Linear(30, 15))


def test_a_head_beside_the_base_changes_no_name():
    A, B, C = normal(30, 20), normal(30, 20), normal(50, 30)
    base = {"model.layers.0.q.weight": A}
    tuned = {"model.layers.0.q.weight": B, "lm_head.weight": C}
    comparison = fitting.compare({"base": base, "tuned": tuned})
    assert len(comparison.layers) == 1
    assert comparison.notes == ()
    s, t = (np.linalg.svd(W, compute_uv=False) for W in (A, B))
    change = np.linalg.norm(s - t) / max(np.linalg.norm(s), np.linalg.norm(t))
    assert comparison.layers["spectrum_change", "tuned"].iloc[0] == pytest.approx(change)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda net: torch.optim.swa_utils.AveragedModel(net).state_dict(),
        lambda net: {f"_forward_module.{k}": v for k, v in net.state_dict().items()},
        lambda net: {f"_orig_mod.{k}": v for k, v in net.state_dict().items()},
        lambda net: {f"base_model.model.{k}": v for k, v in net.state_dict().items()},
        lambda net: {f"model.{k}": v for k, v in net.state_dict().items()},
        lambda net: torch.nn.DataParallel(net),
        lambda net: {"model": {k.replace(".", "/").replace("weight", "kernel"): v.numpy().T
                               for k, v in net.state_dict().items()}},
    ],
    ids=["averaged", "deepspeed", "compiled", "peft", "lightning", "parallel", "tree"],
)  # fmt: skip
def test_what_wraps_a_model_is_left_out(wrap):
    comparison = fitting.compare({"plain": network(), "wrapped": wrap(network())})
    assert len(comparison.layers) == 2
    assert (comparison.layers["spectrum_change", "wrapped"] < 1e-6).all()


def test_it_is_said_what_was_left_out():
    net = network()
    wrapped = {f"base_model.model.{name}": value for name, value in net.state_dict().items()}
    comparison = fitting.compare({"plain": net, "wrapped": wrapped})
    assert comparison.notes == ("2 names of 'wrapped' are matched without 'base_model/model'",)


def test_what_wraps_nothing_is_no_reason_to_mix_two_weights_up():
    one = {"model.fc.weight": normal(30, 20), "fc.weight": normal(30, 20)}
    comparison = fitting.compare({"a": one, "b": dict(one)})
    assert (comparison.layers["spectrum_change", "b"] == 0).all()
    assert len(comparison.layers) == 2


def test_matrices_match_whatever_their_orientation():
    W = normal(30, 20)
    comparison = fitting.compare({"a": {"fc": {"kernel": W}}, "b": {"fc": {"kernel": W.T.copy()}}})
    assert comparison.layers["spectrum_change", "b"].iloc[0] == pytest.approx(0, abs=1e-12)


def test_models_that_share_nothing_say_so():
    comparison = fitting.compare(
        {"a": {"x.weight": normal(30, 20)}, "b": {"x.weight": normal(30, 21)}}
    )
    assert comparison.layers is None
    assert "'a' and 'b' share no matrix" in comparison.notes[0]


@pytest.mark.parametrize(
    ("old", "new"), [("blocks", "layers"), ("", "bert"), ("blocks", "vision/blocks")]
)
def test_names_that_differ_in_one_part_are_pointed_out(old, new):
    old_prefix, new_prefix = (p.replace("/", ".") + "." if p else "" for p in (old, new))
    weights = {f"{n}.{leaf}.weight": normal(30, 20) for n in range(3) for leaf in ("q", "k")}
    first = {f"{old_prefix}{name}": W for name, W in weights.items()} | {"z.weight": normal(12, 11)}
    second = {f"{new_prefix}{name}": W for name, W in weights.items()} | {
        "z.weight": normal(12, 11)
    }
    comparison = fitting.compare({"a": first, "b": second})
    difference = ("", "vision") if "/" in new else (old, new)
    assert len(comparison.layers) == 1
    assert comparison.notes == (
        f"6 names of 'b' would be those of 'a' with {difference[0]!r} for {difference[1]!r}",
    )


def test_what_transformers_renames_is_one_matrix():
    experts = {f"experts.{n}.{w}.weight": normal(20, 30) if w == "w2" else normal(30, 20)
               for n in range(2) for w in ("w1", "w2", "w3")}  # fmt: skip
    old = {f"model.layers.0.block_sparse_moe.{name}": W for name, W in experts.items()}
    new = {f"model.layers.0.mlp.{name}": W for name, W in experts.items()}
    comparison = fitting.compare({"file": old, "memory": new})
    assert len(comparison.layers) == 6
    assert (comparison.layers["spectrum_change", "memory"] == 0).all()
    assert "as transformers 5 renames them" in comparison.notes[0]


def test_what_is_no_report_yet_is_evaluated_as_asked():
    conv = {"c.weight": normal(16, 12, 3, 3)}
    comparison = fitting.compare({"a": conv, "b": conv}, conv="pooled", num_bootstrap=2)
    assert len(comparison.layers) == 1


def test_a_comparison_is_what_was_saved(tmp_path):
    for models in (
        {"a": network(0), "b": network(1)},
        {"a": network(), "b": {"x.weight": normal(9, 8)}},
    ):
        comparison = fitting.compare(models)
        loaded = fitting.load_comparison(comparison.save(tmp_path / "comparison.json"))
        assert loaded == comparison
        assert comparison != fitting.compare({"a": network(0), "b": network(2)})
        assert repr(loaded) == repr(comparison)
        assert len(repr(comparison).splitlines()) < 8
        assert "<table" in comparison._repr_html_()
    (tmp_path / "other.json").write_text("[]")
    with pytest.raises(ValueError, match=r"is no comparison .*; expected a file"):
        fitting.load_comparison(tmp_path / "other.json")
