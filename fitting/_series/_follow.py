"""One model over training: the spectra of its checkpoints, one after the other."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

import spectral_reg as sr
from spectral_reg._axes_argument import Axes

from .._evaluation import Unit, describe, measure_unit, open_plan, run
from .._reports import FORMAT
from ._kept import Kept, Rows
from ._series import Series, make_series
from ._steps import Checkpoint, find_checkpoints
from ._trends import SHARES, tail_alphas

TAILS = "tails"


def follow(
    checkpoints: Any,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    conv: str | sr.ConvOperator = "slices",
    layers: Sequence[str] | None = None,
    axes: Axes = None,
    num_bootstrap: int = 200,
    progress: bool = True,
) -> "Series":
    """Measures every weight matrix of a model at each of its checkpoints.

    Args:
        checkpoints: A folder of them, files or folders with their step in the name
            (``checkpoint-500``, ``step_1000.safetensors``, Orbax's ``1000``), of any format that
            :func:`evaluate` reads; a list of paths or models, in their order where their names
            have no numbers; or a dict of these by step.
        out: Folder that gets a file for each matrix as soon as it is measured, by the digest of
            its values: what training has not changed is measured once. And ``series.json``.
        resume: Go on with what ``out`` holds. Checkpoints whose files have not changed are not
            opened again.
        conv: As for :func:`evaluate`.
        layers: As for :func:`evaluate`.
        axes: As for :func:`evaluate`.
        num_bootstrap: Bootstraps for the p-value of each power law, by which it is told whether
            there is a tail at all; 0 leaves it out.
        progress: Show a progress bar with an estimate on standard error.

    Returns:
        A :class:`Series`.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If there are fewer than two checkpoints, one cannot be read, two are of one
            step, they have no matrix in common, or as for :func:`evaluate`.
        TypeError: If ``checkpoints`` is none of these.

    Example:
        >>> import numpy as np, fitting
        >>> rng = np.random.default_rng(0)
        >>> W, drift = rng.normal(size=(120, 80)), rng.normal(size=(2, 120, 1))
        >>> run = {t: {"fc": {"kernel": W + t * drift[0] @ drift[1, :80].T}} for t in range(5)}
        >>> series = fitting.follow(run, progress=False)
        >>> series.trends(["spectral_norm"]).loc[0, "change"].round(0)
        np.float64(331.0)

    Cost: a pass over each file, and of each matrix that has changed what :func:`evaluate` takes;
    as many matrices are in memory as there are cores.
    """
    if num_bootstrap < 0:
        raise ValueError(f"num_bootstrap is {num_bootstrap}; expected 0 or more")
    if resume and out is None:
        raise ValueError("out is None; expected the folder of the series to resume")
    found = find_checkpoints(checkpoints)
    options: dict[str, Any] = {
        "conv": conv,
        "layers": layers,
        "axes": axes,
        "num_bootstrap": num_bootstrap,
    }
    kept = open_kept(out, options, resume=resume)
    rows: list[dict[str, Any]] = []
    skipped: list[dict[str, Any]] = []
    with tqdm(found, desc="checkpoints", unit="checkpoint", disable=not progress) as bar:
        for checkpoint in bar:
            try:
                of_step = measure_step(checkpoint, kept, **options)
            except (ValueError, OSError, ImportError) as error:
                error.add_note(f"at step {checkpoint.step}")
                raise
            rows += of_step[0]
            skipped += of_step[1]
    return assemble(rows, skipped, out=out, conv=conv)


def open_kept(out: str | Path | None, options: Mapping[str, Any], *, resume: bool) -> Kept:
    """What holds the matrices that are measured: a folder, or memory."""
    texts = {name: repr(option) for name, option in options.items()} | {"format": str(FORMAT)}
    return Kept(None if out is None else Path(out), texts, resume=resume)


def assemble(
    rows: Sequence[dict[str, Any]],
    skipped: Sequence[dict[str, Any]],
    *,
    out: str | Path | None,
    conv: str | sr.ConvOperator,
) -> "Series":
    """The series of the rows of all steps, in their order; in the folder too if there is one."""
    _check_shared(rows)
    place = ("step", "name", "index")
    tails = [
        {key: row[key] for key in place} | dict(zip(map(str, SHARES), row[TAILS], strict=True))
        for row in rows
    ]
    columns = [{key: value for key, value in row.items() if key != TAILS} for row in rows]
    series = make_series(columns, tails, skipped, conv=str(conv))
    if out is not None:
        series.save(Path(out) / "series.json")
    return series


def measure_step(
    checkpoint: Checkpoint,
    kept: Kept,
    *,
    conv: str | sr.ConvOperator,
    layers: Sequence[str] | None,
    axes: Axes,
    num_bootstrap: int,
    executor: Executor | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of a checkpoint, and the tensors that it skips."""
    step, model = checkpoint
    is_path = isinstance(model, (str, Path))
    what = describe(model, {}, {}, Path("."))["files"] if is_path else None
    held = kept.load_step(step, what) if is_path else None
    if held is not None:
        known = [kept.load(digest) for digest in held["digests"]]
        if None not in known:
            return _at(step, [rows for rows in known if rows is not None]), held["skipped"]
    _, todo = open_plan(model, conv=conv, layers=layers, axes=axes)
    measure = partial(_measured_or_kept, todo.units, kept=kept, num_bootstrap=num_bootstrap)
    numbers = range(len(todo.units))
    done = dict(
        run(
            measure,
            numbers,
            executor=executor,
            num_bytes=lambda number: todo.units[number].num_bytes,
        )
    )
    skipped = [
        {"step": step, "name": name, "shape": str(shape), "reason": reason}
        for name, (shape, reason) in todo.skipped.items()
    ]
    digests = [done[number][0] for number in numbers]
    if is_path:
        kept.save_step(step, {"what": what, "digests": digests, "skipped": skipped})
    return _at(step, [done[number][1] for number in numbers]), skipped


def _measured_or_kept(
    units: Sequence[Unit], number: int, *, kept: Kept, num_bootstrap: int
) -> tuple[str, Rows]:
    unit = units[number]
    values = unit.tensor.read()
    said = repr((unit.key, unit.kind, unit.axes, unit.conv, unit.split, unit.low_rank))
    # In the order of memory: a weight of PyTorch's is a transposed view, which is not to be copied.
    in_order = values if values.flags.c_contiguous else values.T
    said += repr((in_order.shape, values.dtype.name, in_order is values, unit.tensor.quantization))
    digest = hashlib.sha256(said.encode())
    digest.update(np.ascontiguousarray(in_order).reshape(-1).view(np.uint8).data)
    key = digest.hexdigest()[:32]
    rows = kept.load(key)
    if rows is None:
        unit = replace(unit, tensor=replace(unit.tensor, read=lambda: values))
        measured = measure_unit(unit, num_bootstrap=num_bootstrap, accelerator=True)
        for row, eigenvalues in measured:
            # JSON has no NaN.
            row[TAILS] = [alpha if alpha == alpha else None for alpha in tail_alphas(eigenvalues)]
        rows = kept.save(key, measured)
    return key, rows


def _at(step: int, found: Sequence[Rows]) -> list[dict[str, Any]]:
    return [{"step": step} | row for rows in found for row, _ in rows]


def _check_shared(rows: Sequence[Mapping[str, Any]]) -> None:
    seen: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        seen.setdefault((row["name"], row["index"]), set()).add(row["step"])
    if all(len(of_matrix) < 2 for of_matrix in seen.values()):
        first, last = rows[0], rows[-1]
        raise ValueError(
            f"checkpoints share no matrix: step {first['step']} has {first['name']!r}, step "
            f"{last['step']} {last['name']!r}; expected checkpoints of one model"
        )
