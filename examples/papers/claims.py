"""The claims that a reproduction is held to, each decided by the numbers of finished cells."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import spearmanr

import spectral_reg as sr
from examples.papers import published_runs as paper
from examples.presenting.rows import Group, Row, measure, row, test_accuracy, train_accuracy
from examples.sweeping.cells import Cell
from examples.training.config import Config
from examples.training.networks import LAYERS
from examples.training.penalties import POWER_LAWS, SPECTRAL

NOT_RUN = "not run"


class Claim(NamedTuple):
    """A claim, whether it holds, and what says so.

    Attributes:
        name: R3 to R7, and its part.
        text: What is claimed.
        holds: None where the runs for it are missing, or too short for it not to hold.
        evidence: The numbers.
    """

    name: str
    text: str
    holds: bool | None
    evidence: str


def _missing(name: str, text: str) -> Claim:
    return Claim(name, text, None, NOT_RUN)


# A run is too short to refute anything if its training accuracy is more than the first below the
# papers' at its batch size, or below the second where they give none.
SHORT_OF, TRAINED = 0.02, 0.95


# The papers' own L2 is no large one.
SMALL_L2 = 1e-4


def _short(groups: Iterable[Group]) -> list[str]:
    """Of the groups that were not trained as far as the papers', how far they were."""
    short = []
    for group in groups:
        theirs = paper.SWEEP.get(group.config.batch_size, paper.Sweep()).train
        reached = group.mean(train_accuracy)
        if not reached >= (TRAINED if theirs is None else theirs - SHORT_OF):
            short.append(f"trained to {reached:.3f} at b = {group.config.batch_size}")
    return list(dict.fromkeys(short))


def _judged(name: str, text: str, holds: bool, evidence: str, groups: Iterable[Group]) -> Claim:
    """Decides a claim, which runs that were not trained as far as the papers' cannot refute."""
    short = _short(groups)
    told = "; ".join([evidence, *short])
    return Claim(name, text, None if short and not holds else holds, told)


def start(cells: Sequence[Cell[Config]]) -> Claim:
    """R3: untrained layers are random."""
    text = "untrained: stable rank 225 and 66 to 3 %, entropy .992 and .952 to .001, RANDOM_LIKE"
    if not cells:
        return _missing("R3", text)
    one = {cell.config.seed: cell for cell in cells}.values()
    parts, holds = [], True
    for name, rank, entropy in (("fc1", 225, 0.992), ("fc2", 66, 0.952)):
        shape = LAYERS[next(iter(one)).config.network][name]
        layers = [measure(cell.arrays[name][0], shape) for cell in one]
        ranks = float(np.mean([layer.stable_rank for layer in layers]))
        entropies = float(np.mean([layer.entropy for layer in layers]))
        random = sum(layer.phase == "RANDOM_LIKE" for layer in layers)
        parts.append(f"{name.upper()} {ranks:.1f}, {entropies:.4f}, random {random}/{len(layers)}")
        holds &= abs(ranks / rank - 1) <= 0.03 and abs(entropies - entropy) <= 0.001
        holds &= random == len(layers)
    return Claim("R3", text, holds, "; ".join(parts))


def _of(layer: str, number: str) -> Callable[[Row], float]:
    return lambda row: getattr(row.layers[layer], number)


def _within(
    groups: Mapping[int, Group],
    name: str,
    text: str,
    sizes: Sequence[int],
    number: str,
    low: float,
    high: float,
) -> Claim:
    present = [size for size in sizes if size in groups]
    if not present:
        return _missing(name, text)
    values = [groups[size].mean(_of("fc1", number)) for size in present]
    shown = ", ".join(f"b = {b}: {v:.2f}" for b, v in zip(present, values, strict=True))
    holds = all(low <= value <= high for value in values)
    return _judged(name, text, holds, shown, [groups[size] for size in present])


def batch_sizes(groups: Mapping[int, Group]) -> list[Claim]:
    """R4: what the batch size does, given the runs by batch size."""
    claims = []
    for layer in ("fc1", "fc2"):
        for number in ("stable_rank", "mp_soft_rank"):
            name = f"R4 {layer.upper()} {number.replace('_', ' ').replace('mp', 'MP')}"
            text = "falls with the batch size: Spearman correlation of at least .9"
            means = [group.mean(_of(layer, number)) for group in groups.values()]
            if len(groups) < 3:
                claims.append(_missing(name, text))
            elif np.ptp(means) == 0:
                evidence = f"{means[0]:.2f} at all of them"
                claims.append(_judged(name, text, False, evidence, groups.values()))
            else:
                correlation = spearmanr(list(groups), means).statistic
                evidence = f"{correlation:.2f} over {len(means)} batch sizes"
                holds = bool(correlation >= 0.9)
                claims.append(_judged(name, text, holds, evidence, groups.values()))
    claims += [
        _within(groups, *each)
        for each in (
            ("R4 soft rank", "FC1 at least .95 at b >= 250", (500, 250), "mp_soft_rank", 0.95, 1),
            ("R4 soft rank", "FC1 below .5 at b <= 8", (8, 4, 2), "mp_soft_rank", 0, 0.5),
            ("R4 spikes", "about 9 in FC1 at b = 32: 6 to 12", (32,), "num_spikes", 6, 12),
        )
    ]
    for size in (500, 250, 8, 2):
        expected = paper.SWEEP[size].phase
        name, text = "R4 phase", f"FC1 {expected} at b = {size}"
        if size not in groups:
            claims.append(_missing(name, text))
        else:
            seen = groups[size].phase("fc1")
            claims.append(_judged(name, text, seen == expected, seen, [groups[size]]))
    # Their own numbers are .695, .749 and .769: the second step is below the .03 asked for.
    for large, small, least in ((500, 32, 0.03), (32, 8, 0.0)):
        name = "R4 accuracy"
        text = f"b = {small} tests better than b = {large}" + (f" by {least}" if least else "")
        if large not in groups or small not in groups:
            claims.append(_missing(name, text))
            continue
        means = [groups[size].mean(test_accuracy) for size in (large, small)]
        gain = means[1] - means[0]
        holds = bool(gain >= least and gain > 0)
        evidence = f"{means[0]:.4f} to {means[1]:.4f}"
        claims.append(_judged(name, text, holds, evidence, [groups[large], groups[small]]))
    return claims


def explicit(runs: Mapping[str, Group], cells: Iterable[Cell[Config]]) -> list[Claim]:
    """R5: what L2 does, given the runs of the training dynamics by name, and all cells."""
    claims = []
    for layer in ("fc1", "fc2"):
        name, text = "R5", f"L2 of 1e-4 more than halves the stable rank of {layer.upper()}"
        if not {"baseline", "L2"} <= runs.keys():
            claims.append(_missing(name, text))
            continue
        ranks = [runs[run].mean(_of(layer, "stable_rank")) for run in ("baseline", "L2")]
        evidence = f"{ranks[0]:.1f} to {ranks[1]:.1f}"
        pair = [runs["baseline"], runs["L2"]]
        claims.append(_judged(name, text, ranks[1] * 2 < ranks[0], evidence, pair))
    text = "L2 of 1e-4 costs at most .01 of test accuracy"
    if {"baseline", "L2"} <= runs.keys():
        tests = [runs[run].mean(test_accuracy) for run in ("baseline", "L2")]
        holds = bool(tests[1] >= tests[0] - 0.01)
        claims.append(Claim("R5", text, holds, f"{tests[0]:.4f} to {tests[1]:.4f}"))
    else:
        claims.append(_missing("R5", text))
    text = "a large L2 makes RANK_COLLAPSE of FC1"
    strong = [
        cell
        for cell in cells
        if cell.config.penalty == "l2"
        and cell.config.strength > SMALL_L2
        and not cell.config.norm_matched
    ]
    if not strong:
        return [*claims, _missing("R5", text)]
    collapsed = sorted(
        {
            (c.config.strength, c.config.batch_size)
            for c in strong
            if row(c).layers["fc1"].phase == "RANK_COLLAPSE"
        }
    )
    strengths = sorted({cell.config.strength for cell in strong})
    seen = ", ".join(f"at {strength:g} with b = {size}" for strength, size in collapsed)
    tried = f"{seen or 'at none'}, of {', '.join(f'{strength:g}' for strength in strengths)}"
    return [*claims, Claim("R5", text, bool(collapsed), tried)]


def _penalized_value(penalty: str, eigenvalues: np.ndarray) -> float:
    single = eigenvalues.astype(np.float32)
    if penalty in POWER_LAWS:
        return float(sr.power_law_distance(POWER_LAWS[penalty]).of_eigenvalues(single))
    name = "log_stable_rank" if penalty == "stable_rank_hinge" else penalty
    return float(getattr(sr, name).of_eigenvalues(single))


def penalties(cells: Iterable[Cell[Config]]) -> list[Claim]:
    """R6: each spectral penalty lowers what it penalizes, against the same run without it."""
    known = {cell.config: cell for cell in cells}
    claims = []
    for penalty in SPECTRAL:
        text = f"{penalty} lowers its metric in FC1 and FC2, at each strength"
        signs, total = 0, 0
        for config, cell in known.items():
            plain = known.get(dataclasses.replace(config, penalty="", strength=0.0))
            if config.penalty != penalty or config.norm_matched or plain is None:
                continue
            for layer in LAYERS[config.network]:
                ends = (cell.arrays[layer][-1], plain.arrays[layer][-1])
                if np.isfinite(ends).all():
                    values = [_penalized_value(penalty, end) for end in ends]
                    signs, total = signs + (values[0] < values[1]), total + 1
        holds = signs == total if total else None
        claims.append(Claim("R6", text, holds, f"{signs} of {total}" if total else NOT_RUN))
    return claims


def learning_rates(groups: Mapping[float, Group]) -> Claim:
    """R7: the learning rate alone takes FC1 through the phases, given the runs by rate."""
    text = "at b = 64, five learning rates, 1 to 125, give the phases in their order"
    if len(groups) != len(paper.LEARNING_RATES):
        return _missing("R7", text)
    rates = sorted(groups)
    seen = [groups[rate].phase("fc1") for rate in rates]
    evidence = ", ".join(f"{rate:g}: {phase}" for rate, phase in zip(rates, seen, strict=True))
    expected = paper.LEARNING_RATES.values()
    others = [
        groups[rate]
        for rate, ours, theirs in zip(rates, seen, expected, strict=True)
        if ours != theirs
    ]
    # One rate that was trained far enough refutes the order.
    trained = [group for group in others if not _short([group])]
    return _judged("R7", text, not others, evidence, trained or others)
