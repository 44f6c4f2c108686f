"""Which matrix of one model is which of another, whatever wraps them."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from .._evaluation import short_name
from .._reports import Report

Key = tuple[str, str]
Shapes = dict[Key, tuple[int, int, int]]
# What transformers 5 calls otherwise in memory than in the files of earlier versions, and writes.
RENAMED = (
    (re.compile(r"^language_model/(model/)?"), ""),
    (re.compile(r"^embed_out/"), "lm_head/"),
    (re.compile(r"(^|/)block_sparse_moe/"), r"\1mlp/"),
    (re.compile(r"(^|/)mlp/input_linear/kernel$"), r"\1mlp/experts/gate_up_proj"),
    (re.compile(r"(^|/)mlp/output_linear/kernel$"), r"\1mlp/experts/down_proj"),
    (re.compile(r"/router/layer/"), "/router/"),
    (re.compile(r"(^|/)encoder/layer/(\d+)/"), r"\1layers/\2/"),
    (re.compile(r"/attention/attention/(q|k|v)(uery|ey|alue)/"), r"/attention/\1_proj/"),
    (re.compile(r"/attention/output/dense/"), "/attention/o_proj/"),
    (re.compile(r"(layers/\d+)/intermediate/dense/"), r"\1/mlp/fc1/"),
    (re.compile(r"(layers/\d+)/output/dense/"), r"\1/mlp/fc2/"),
)
# Names of one model that are held against those of another to find what differs.
MAX_NAMES = 500


class Alignment(NamedTuple):
    """The matrices that all models share.

    Attributes:
        keys: Of each model, by those of the first.
        notes: How they were found, and what stands against it.
    """

    keys: dict[str, dict[Key, Key]]
    notes: tuple[str, ...]


def align(reports: Mapping[str, Report]) -> Alignment:
    """Matrices of the same name, what wraps the models left out, and of the same two sides."""
    first, *others = reports
    shapes = {name: _shapes(report) for name, report in reports.items()}
    found = {other: _matched(shapes[first], shapes[other]) for other in others}
    shared = [key for key in shapes[first] if all(key in found[other] for other in others)]
    keys = {first: {key: key for key in shared}}
    keys |= {other: {key: found[other][key] for key in shared} for other in others}
    notes = [note for other in others for note in _notes(first, other, found[other], shapes)]
    return Alignment(keys, tuple(notes))


def _shapes(report: Report) -> Shapes:
    columns = report.layers[["name", "index", "rows", "cols", "num_eigenvalues"]]
    return {
        (name, index): (min(rows, cols), max(rows, cols), size)
        for name, index, rows, cols, size in columns.itertuples(index=False)
    }


def _matched(shapes: Shapes, others: Shapes) -> dict[Key, Key]:
    """Keys of another model by those of the first."""
    by_name = _by_common_name(others)
    ours = _by_common_name(shapes)
    matched = {}
    for key in shapes:
        common = _common(key)
        other = key if key in others else by_name.get(common) if ours.get(common) == key else None
        if other is not None and others[other] == shapes[key]:
            matched[key] = other
    return matched


def _by_common_name(shapes: Shapes) -> dict[Key, Key]:
    """Keys by what is left of their names, where that is one's alone."""
    count = Counter(_common(key) for key in shapes)
    return {_common(key): key for key in shapes if count[_common(key)] == 1}


def _common(key: Key) -> Key:
    name = short_name(key[0])
    for pattern, now in RENAMED:
        name = pattern.sub(now, name)
    return name, key[1]


def _notes(
    first: str, other: str, matched: Mapping[Key, Key], shapes: Mapping[str, Shapes]
) -> list[str]:
    notes = []
    pairs = {key[0]: found[0] for key, found in matched.items() if key[0] != found[0]}
    dropped: Counter[tuple[str, str]] = Counter()
    for ours, theirs in pairs.items():
        if _wrapping(ours) != _wrapping(theirs):
            dropped.update(
                (model, _wrapping(name))
                for model, name in ((first, ours), (other, theirs))
                if _wrapping(name)
            )
    for (model, wrapping), count in dropped.items():
        notes.append(f"{count} names of {model!r} are matched without {wrapping!r}")
    renamed = [ours for ours, theirs in pairs.items() if short_name(ours) != short_name(theirs)]
    if renamed:
        notes.append(
            f"{len(renamed)} names are matched as transformers 5 renames them, such as "
            f"{renamed[0]!r} of {first!r} and {pairs[renamed[0]]!r} of {other!r}"
        )
    taken = {*matched.values()}
    ours_left = [key[0] for key in shapes[first] if key not in matched]
    theirs_left = [key[0] for key in shapes[other] if key not in taken]
    if not matched:
        notes.append(
            f"{first!r} and {other!r} share no matrix: of the same name and sides there is none "
            f"({ours_left[0]!r} and the like against {theirs_left[0]!r} and the like)"
        )
    if difference := _difference(shapes[first], shapes[other], ours_left, theirs_left):
        count, one, another = difference
        notes.append(
            f"{count} names of {other!r} would be those of {first!r} with {one!r} for {another!r}"
        )
    return notes


def _wrapping(name: str) -> str:
    """The parts of a name that wrap the model."""
    left = Counter(short_name(name).split("/"))
    parts = []
    for part in reversed(name.split("/")):
        if left[part]:
            left[part] -= 1
        else:
            parts.append(part)
    return "/".join(reversed(parts))


def _difference(
    shapes: Shapes, others: Shapes, ours: Sequence[str], theirs: Sequence[str]
) -> tuple[int, str, str] | None:
    """The one part by which most of the names that do not match differ, ours and theirs."""
    names = [*dict.fromkeys(ours)][:MAX_NAMES]
    found: Counter[tuple[str, str]] = Counter()
    sides = {name: size for (name, _), size in shapes.items()}
    other_sides = {name: size for (name, _), size in others.items()}
    by_last: dict[tuple[object, ...], list[str]] = {}
    for name in [*dict.fromkeys(theirs)][:MAX_NAMES]:
        by_last.setdefault((other_sides[name], name.split("/")[-1]), []).append(name)
    for name in names:
        pairs = {
            pair
            for other in by_last.get((sides[name], name.split("/")[-1]), [])
            if (pair := _differing_part(name.split("/"), other.split("/")))
        }
        found.update(pairs)
    if not found:
        return None
    (one, another), count = found.most_common(1)[0]
    return (count, one, another) if 2 * count >= min(len(names), len({*theirs})) else None


def _differing_part(one: list[str], other: list[str]) -> tuple[str, str] | None:
    """What stands in one place of two paths that are otherwise the same."""
    ahead = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), None)
    if ahead is None:
        return None
    back = 0
    while back < min(len(one), len(other)) - ahead and one[-1 - back] == other[-1 - back]:
        back += 1
    ours, theirs = one[ahead : len(one) - back], other[ahead : len(other) - back]
    if len(ours) > 1 or len(theirs) > 2:
        return None
    return "/".join(ours), "/".join(theirs)
