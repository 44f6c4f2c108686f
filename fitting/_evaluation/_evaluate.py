"""The spectra of a whole model, measured layer by layer."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from functools import partial
from numbers import Integral
from pathlib import Path
from typing import Any

from tqdm import tqdm

import spectral_reg as sr
from spectral_reg._axes_argument import Axes

from .._checkpoints import Tensor, open_checkpoint
from .._reports import FORMAT, Report, make_report
from ._change import changes
from ._configuration import read_configuration
from ._execution import run
from ._finished import Finished, Rows, describe
from ._layouts import NOT_A_NAME, Plan, measured_values, plan, unnamed_matrices
from ._measure import EXTRAS, measure_spectrum
from ._unit import Unit, spectra

CONV = ("slices", "pooled", "flatten")
# Of tensors, in the message that there is nothing to measure.
MAX_REASONS = 10


def evaluate(
    model_or_path: Any,
    *,
    base: Any = None,
    conv: str | sr.ConvOperator = "slices",
    layers: Sequence[str] | None = None,
    axes: Axes = None,
    num_bootstrap: int = 0,
    extras: Sequence[str] = (),
    out: str | Path | None = None,
    resume: bool = False,
    executor: Executor | None = None,
    progress: bool = True,
) -> Report:
    """Measures the spectrum of every weight matrix of a model.

    Args:
        model_or_path: A model in memory: a pytree of parameters (Flax nnx module or state, Linen
            variables, Equinox module, nested dict of arrays), a ``torch.nn.Module`` or its state
            dict, a matrix or a dict of matrices, whatever their names. Or a path, read with the
            package in parentheses, an extra of this one:

            - ``.safetensors``; ``.npz``; the ``.index.json`` of a sharded checkpoint
            - ``.pt .pth .th .bin .tar .ckpt``, PyTorch's, a state dict or a dict that holds one,
              by ``weights_only=True`` alone (``torch``)
            - ``.msgpack``, Flax's, and Orbax folders (``flax``)
            - ``.keras .h5 .hdf5``, ``.weights.h5`` among them (``keras``)
            - ``.onnx`` (``onnx``)
            - ``.gguf``
            - a folder that holds one of these, such as Hugging Face's

        base: The model that this one was tuned from, in any of these ways: then the change of each
            weight that both have is measured, W - W_base, or what an adapter adds (B A times its
            scale, DoRA's with its magnitudes, AdaLoRA's with its diagonal). The columns
            ``change_share``, ``change_overlap`` and ``change_overlap_by_chance`` say how large it
            is and how far it lies in the base's ten largest directions.
        conv: What a convolution becomes: ``"slices"``, a row for each position of its window (the
            papers' feature maps); ``"pooled"``, one row for all their eigenvalues; ``"flatten"``,
            one row for the [window * in, out] matrix; :func:`spectral_reg.conv_operator`, one row
            for the convolution as a map of whole inputs. A depthwise kernel is always one matrix.
        layers: Shell patterns of the paths to measure, such as ``"layer3/*"``; None measures all.
        axes: Which axes of a weight make its matrix, in all the forms that
            :func:`spectral_reg.layer_matrices` takes: path patterns to
            :class:`spectral_reg.MatrixAxes` or :class:`spectral_reg.Stacked`, a tree of Muon's
            numbers, and so on. A tensor whose axes it gives is measured whatever its name. Without
            it, names and shapes decide; where these say that layers are stacked on the second axis,
            they are read so, with a warning.
        num_bootstrap: Bootstraps for the p-value of each power law; 0 leaves it out.
        extras: ``"traps"`` for ``num_traps`` and ``trap_p_value`` (:func:`find_traps`), which takes
            a second decomposition, and ``"trace_log"`` for ``trace_log_num``, ``trace_log_sigma``
            and ``trace_log_gap`` (:func:`trace_log`).
        out: Folder that gets a file for each weight as soon as it is measured, and ``report.json``
            at the end.
        resume: Continue from the weights that ``out`` already holds.
        executor: Where the weights are measured: any ``concurrent.futures.Executor``, such as a
            process pool or Dask's ``Client.get_executor()``. None takes a thread for each core, and
            starts no more weights at a time than a gigabyte holds.
        progress: Show a progress bar with an estimate on standard error.

    Returns:
        A :class:`Report`. Every tensor is in ``layers`` or, with the reason, in ``skipped``, in the
        model's order. What keeps no order (``.safetensors``, Orbax, dicts that JAX has sorted)
        comes by name, layer 2 before layer 10. The query, key and value of a fused weight have a
        row each, and so have the gates of a recurrent one; a low-rank adapter has one for the
        product of its pair, a reparametrized weight one for what its parts make.

    Raises:
        FileNotFoundError: If the path does not exist.
        ValueError: If the file cannot be read, ``conv`` is unknown, a pattern matches nothing,
            nothing is to be measured, ``base`` shares no weight with the model, or ``out`` holds
            another evaluation, or one and not ``resume``.
        TypeError: If ``layers`` is a single pattern, or ``axes`` of none of these forms.
        ImportError: If the package that reads the file is not installed.

    Example:
        >>> import numpy as np, fitting
        >>> params = {"fc": {"kernel": np.random.default_rng(0).normal(size=(400, 100))}}
        >>> report = fitting.evaluate(params, progress=False)
        >>> report.layers.loc[0, "phase"]
        'RANDOM_LIKE'

    A weight under several names, such as the tied embedding of a live PyTorch or nnx module, is
    measured once, under the first; the others are in ``skipped``.

    ``kind`` tells how a weight was read: dense, embedding, conv or conv_transpose; stack, bilinear
    and experts, whose leading axes are a batch; qkv, kv, gate_up, lstm and gru, cut into the parts
    that ``index`` names; rnn; lora, the nonzero spectrum of a low-rank product times
    (alpha / r)^2, or "lora, alpha not known" without that factor.

    A live model's ``config``, or the ``config.json`` beside the weights, says how fused weights
    are cut: grouped queries by their numbers of heads, heads that take turns, CodeGen's blocks,
    gates that alternate with what they multiply. Without one a weight is cut where all known
    models that use its name lay it out alike; otherwise it is measured whole, and its kind begins
    with "fused". Gated experts that a file lists one by one have the rows of a stack:
    ``experts/gate_up_proj`` with an index such as ``"3,gate"``, and ``experts/down_proj``.

    Quantized weights (FP8 with scales, MXFP4, AWQ and GPTQ of 4 bits, GGUF's Q4 to Q8) are measured
    as what they stand for. ``quantization`` names their format and ``noise_edge`` is where the
    eigenvalues of rounding errors end, from the width of each weight's interval; no tail is fitted
    below it.

    Cost: a Gram matrix and its eigenvalues in float64 for each matrix, on the GPU where JAX has one
    and the short side is 1,024 or more, an svd where the short side is below 384 or the rank cannot
    be told otherwise; and the fits.
    A layer that cannot be fitted (all zero, NaN, constant, under 10 eigenvalues) keeps its row with
    ``valid=False`` and a reason.

    References:
        Martin and Mahoney, Universality and capacity metrics, Methodology.
    """
    if not isinstance(num_bootstrap, Integral) or num_bootstrap < 0:
        raise ValueError(f"num_bootstrap is {num_bootstrap!r}; expected a whole number, 0 or more")
    if isinstance(extras, str) or not set(extras) <= set(EXTRAS):
        raise ValueError(f"extras is {extras!r}; expected a list of {', '.join(EXTRAS)}")
    if resume and out is None:
        raise ValueError("out is None; expected the folder of the evaluation to resume")
    tensors, todo = open_plan(model_or_path, conv=conv, layers=layers, axes=axes)
    if base is not None:
        base_tensors, of_base = open_plan(base, conv=conv, as_base=True)
        todo = changes(todo, tensors, of_base, base_tensors)
    finished = None
    if out is not None:
        told = axes if axes is None else {unit.name: unit.axes for unit in todo.units}
        options = {"conv": conv, "layers": layers, "axes": told, "num_bootstrap": num_bootstrap}
        options = {name: repr(option) for name, option in options.items()}
        if extras:
            options["extras"] = repr(sorted(extras))
        options["format"] = str(FORMAT)  # rows of another version do not mix with ours
        options["config"] = repr(read_configuration(model_or_path))
        what = describe(model_or_path, tensors, options, Path(out))
        what["base"] = {} if base is None else describe(base, base_tensors, {}, Path(out))
        finished = Finished(Path(out), what, resume=resume)
    done = {unit.key: rows for unit in todo.units if finished and (rows := finished.load(unit))}
    tasks = [unit for unit in todo.units if unit.key not in done]
    # Processes of an executor would each take the accelerator's memory.
    measure = partial(
        measure_unit,
        num_bootstrap=num_bootstrap,
        accelerator=executor is None,
        extras=tuple(extras),
    )
    results = run(measure, tasks, executor=executor, num_bytes=lambda unit: unit.num_bytes)
    with tqdm(
        total=len(todo.units), initial=len(done), desc="weights", unit="weight",
        disable=not progress,
    ) as bar:  # fmt: skip
        for unit, rows in results:
            done[unit.key] = rows
            if finished:
                finished.save(unit, rows)
            bar.set_postfix_str(unit.name, refresh=False)
            bar.update()
    report = _report(todo, done, conv, num_values=measured_values(tensors, todo.skipped))
    if out is not None:
        report.save(Path(out) / "report.json")
    return report


def open_plan(
    model_or_path: Any,
    *,
    conv: str | sr.ConvOperator = "slices",
    layers: Sequence[str] | None = None,
    axes: Axes = None,
    as_base: bool = False,
) -> tuple[dict[str, Tensor], Plan]:
    """The tensors of a model and what becomes of them; arguments and errors as of `evaluate`.

    ``as_base``: large stacks stay whole, and nothing need be there to measure.
    """
    if conv not in CONV and not isinstance(conv, sr.ConvOperator):
        raise ValueError(
            f"conv is {conv!r}; expected one of {', '.join(CONV)} or conv_operator(height, width)"
        )
    if isinstance(layers, str):
        raise TypeError(f"layers is {layers!r}; expected a list of patterns, [{layers!r}]")
    if axes is None and getattr(model_or_path, "ndim", 0) >= 2:  # an array alone
        model_or_path, axes = {"matrix": model_or_path}, {"matrix": sr.MatrixAxes()}
    tensors = open_checkpoint(model_or_path)
    config = read_configuration(model_or_path)
    todo = plan(tensors, conv=conv, layers=layers, axes=axes, config=config, whole=as_base)
    if not todo.units and axes is None and layers is None:
        unnamed = unnamed_matrices(model_or_path, todo.skipped)
        todo = plan(tensors, conv=conv, axes=unnamed, config=config) if unnamed else todo
    if not (todo.units or as_base):
        raise ValueError(_nothing_to_measure(model_or_path, todo))
    return tensors, todo


def measure_unit(
    unit: Unit,
    *,
    num_bootstrap: int = 0,
    accelerator: bool = False,
    extras: Sequence[str] = (),
) -> Rows:
    """The rows and eigenvalues of one weight; what each task of an evaluation does."""
    rows = []
    try:
        for found in spectra(unit, accelerator=accelerator, traps="traps" in extras):
            place = {"name": unit.name, "index": found.index, "kind": unit.kind}
            row = measure_spectrum(
                found.eigenvalues,
                found.shape,
                num_bootstrap=num_bootstrap,
                squared_norms=found.squared_norms,
                noise_edge=found.noise_edge,
                extras=extras,
            )
            row |= found.beside
            if unit.read_base and not found.eigenvalues.any():
                row["reason"] = "unchanged: equal to the base's"
            row["quantization"] = unit.tensor.quantization
            rows.append((place | row, found.eigenvalues))
    except Exception as error:
        error.add_note(f"while measuring {unit.name}")
        raise
    return rows


def _nothing_to_measure(model_or_path: Any, todo: Plan) -> str:
    if not todo.skipped:
        came = type(model_or_path).__name__
        return (
            f"model_or_path is of type {came} without a weight matrix; expected a model or a path"
        )
    reasons = {name: reason for name, (_, reason) in todo.skipped.items()}
    shown = "; ".join(f"{name!r}: {reason}" for name, reason in [*reasons.items()][:MAX_REASONS])
    more = f" and {len(reasons) - MAX_REASONS} more" if len(reasons) > MAX_REASONS else ""
    advice = ""
    if NOT_A_NAME in reasons.values():
        advice = "; what axes names is measured whatever its name: axes={path: sr.MatrixAxes()}"
    return (
        "the model has no weight matrix to measure; expected one beside the tensors that it has: "
        f"{shown}{more}{advice}"
    )


def _report(
    todo: Plan, done: Mapping[str, Rows], conv: str | sr.ConvOperator, *, num_values: int
) -> Report:
    found = [pair for unit in todo.units for pair in done[unit.key]]
    skipped = [
        {"name": name, "shape": str(shape), "reason": reason}
        for name, (shape, reason) in todo.skipped.items()
    ]
    rows = [row for row, _ in found]
    spectra = {(row["name"], row["index"]): eigenvalues for row, eigenvalues in found}
    return make_report(rows, skipped, spectra, conv=str(conv), num_values=num_values)
