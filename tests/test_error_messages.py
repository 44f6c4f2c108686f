"""What bad input is told: one dialect, "NAME is X; expected Y[; what to do]"."""

import ast
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from draws import RNG

import fitting
import spectral_reg as sr

ROOT = Path(__file__).parents[1]
DIALECT = re.compile(r"[^;]+; expected .+", re.S)
# Of the contents of a file, which say what is wrong with them after the file's name.
OF_FILES = ROOT / "fitting" / "_checkpoints"


def literal(node):
    """A message as far as the code has it in words, VALUE for each value; None without words."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(v.value if isinstance(v, ast.Constant) else "VALUE" for v in node.values)
    return None


def messages():
    for package in ("spectral_reg", "fitting", "examples"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if OF_FILES in path.parents:
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not (isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call)):
                    continue
                kind = getattr(node.exc.func, "id", "")
                said = literal(node.exc.args[0]) if node.exc.args else None
                if kind in ("ValueError", "TypeError") and said is not None:
                    yield pytest.param(said, id=f"{path.relative_to(ROOT)}:{node.lineno}")


MESSAGES = [*messages()]


def test_messages_are_found():
    assert len(MESSAGES) > 100


@pytest.mark.parametrize("said", MESSAGES)
def test_every_refusal_speaks_the_dialect(said):
    if re.fullmatch(r"[\w ]*VALUE: VALUE", said):
        return  # another's message, with where it came from
    assert DIALECT.fullmatch(said), said
    assert ", got " not in said
    assert not said.endswith(".")


W = RNG.normal(size=(30, 20))
EIGENVALUES = np.linalg.svd(W, compute_uv=False) ** 2
FIT = fitting.fit_power_law(EIGENVALUES)
PARAMS = {"fc": {"kernel": jnp.ones((4, 3))}}
REPORT = fitting.evaluate({"fc": {"kernel": W}}, progress=False)

BAD_INPUTS = {
    "eigenvalues: a matrix": lambda: fitting.fit_power_law(W),
    "eigenvalues: none": lambda: fitting.fit_power_law([]),
    "eigenvalues: NaN": lambda: fitting.fit_power_law([1.0, np.nan]),
    "eigenvalues: negative": lambda: fitting.fit_power_law([1.0, -1.0]),
    "eigenvalues: complex": lambda: fitting.fit_power_law([1j]),
    "eigenvalues: of another fit": lambda: fitting.goodness_of_fit(EIGENVALUES[1:], FIT),
    "xmin": lambda: fitting.fit_power_law(EIGENVALUES, xmin=-1),
    "xmax": lambda: fitting.fit_power_law(EIGENVALUES, xmin=2, xmax=1),
    "min_tail": lambda: fitting.fit_power_law(EIGENVALUES, min_tail=1),
    "ks": lambda: fitting.fit_power_law(EIGENVALUES, ks="three-sided"),
    "num_bootstrap": lambda: fitting.goodness_of_fit(EIGENVALUES, FIT, num_bootstrap=0),
    "num_threads": lambda: fitting.fit_power_laws([EIGENVALUES], num_threads=0),
    "one spectrum of several": lambda: fitting.fit_power_laws([EIGENVALUES, [np.nan]]),
    "alpha": lambda: fitting.universality_class(0.5),
    "shape": lambda: fitting.fit_marchenko_pastur(EIGENVALUES, (30, 0)),
    "shape: another": lambda: fitting.fit_marchenko_pastur(EIGENVALUES, (30, 10)),
    "shape: none": lambda: fitting.classify_phase(EIGENVALUES),
    "matrix": lambda: fitting.localization(np.ones(3)),
    "matrix: NaN": lambda: fitting.shuffled_null([[np.nan]]),
    "num_spikes": lambda: fitting.localization(W, num_spikes=21),
    "Q": lambda: fitting.MarchenkoPastur(0.5),
    "p": lambda: fitting.tracy_widom_quantile(2.0),
    "runs": lambda: fitting.pool_spectra([]),
    "conv": lambda: fitting.evaluate(PARAMS, conv="circular"),
    "layers": lambda: fitting.evaluate(PARAMS, layers="fc"),
    "layers: none of them": lambda: fitting.evaluate(PARAMS, layers=["no"]),
    "layers: of a figure": lambda: REPORT.plot("no_such_folder", layers=["no"]),
    "a model": lambda: fitting.evaluate({}),
    "resume": lambda: fitting.evaluate(PARAMS, resume=True),
    "reports": lambda: fitting.compare({"a": REPORT}),
    "reports: of what": lambda: fitting.compare({"a": REPORT, "b": []}),
    "quality": lambda: fitting.compare({"a": REPORT, "b": REPORT}, quality={"a": 1.0}),
    "W": lambda: sr.stable_rank(jnp.ones(3)),
    "W: of integers": lambda: sr.stable_rank(jnp.ones((3, 3), int)),
    "mask: nothing": lambda: sr.layer_matrices(PARAMS, mask=sr.by_path("no")),
    "mask: a bias": lambda: sr.layer_matrices({"b": jnp.ones(3)}, mask=sr.by_path("b")),
    "axes": lambda: sr.layer_matrices(PARAMS, axes={"fc/*": sr.MatrixAxes(0, 5)}),
    "conv of matrices": lambda: sr.layer_matrices(PARAMS, conv="pooled"),
    "reduce": lambda: sr.spectral_penalty(PARAMS, sr.stable_rank, reduce="max"),
    "metric": lambda: sr.spectral_penalty(PARAMS, jnp.linalg.det, conv="pooled"),
    "fraction": lambda: sr.hill(2.0),
    "temperature": lambda: sr.soft_csn(0),
    "band": lambda: sr.target(sr.alpha, 2.0, band=-1.0),
    "bounds": lambda: sr.hinge(sr.alpha),
    "every": lambda: sr.add_spectral_penalty(sr.alpha, 1.0, every=0),
    "tracking": lambda: sr.add_spectral_penalty(sr.alpha, 1.0, tracking="cold"),
    "strength": lambda: sr.add_spectral_penalty(sr.alpha, float("nan")),
    "params": lambda: sr.add_spectral_penalty(sr.alpha, 1.0).update({}, None),
    "size": lambda: sr.conv_operator(0, 3),
}


@pytest.mark.parametrize("call", BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_documented_bad_inputs_are_told_what_came_and_what_was_expected(call):
    with pytest.raises((ValueError, TypeError)) as raised:
        call()
    assert DIALECT.fullmatch(str(raised.value)), raised.value
