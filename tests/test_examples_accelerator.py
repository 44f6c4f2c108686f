"""The papers' scale in pieces: data in parts, pieces that continue, and the estimate."""

import dataclasses

import numpy as np
import pytest
from fake_training import fake_train

from examples import accelerator, batch_size, explicit_penalty, paper_table
from examples.sweeping import cells, command, sweep
from examples.training import data, packed
from examples.training.config import Config


def split(num, seed):
    rng = np.random.default_rng(seed)
    smooth = rng.integers(0, 256, size=(num, 1, 1, 3)) + rng.integers(-9, 9, size=(num, 28, 28, 3))
    # Cut out of planes, as the reader of CIFAR-10's files has them.
    planes = np.pad(smooth.astype(np.uint8).transpose(0, 3, 1, 2), [(0, 0), (0, 0), (2, 2), (2, 2)])
    return planes.transpose(0, 2, 3, 1)[:, 2:30, 2:30], rng.integers(10, size=num).astype(np.uint8)


def test_images_are_packed_without_loss_and_shorter(tmp_path):
    train, test = split(30, 0), split(11, 1)
    paths = packed.write(train, test, tmp_path)
    assert [path.name for path in paths] == ["cifar10-28x28-part1.npz", "cifar10-28x28-part2.npz"]
    for ours, theirs in zip(packed.read(tmp_path), (train, test), strict=True):
        for left, right in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(left, right)
    noise = np.random.default_rng(0).integers(256, size=(3, 28, 28, 3)).astype(np.uint8)
    np.testing.assert_array_equal(packed.unpack(packed.pack(noise), noise.shape), noise)
    assert sum(path.stat().st_size for path in paths) < 0.8 * (train[0].size + test[0].size)


def test_parts_stand_for_the_folder_and_damaged_ones_are_named(tmp_path):
    train, test = split(30, 0), split(11, 1)
    first, _ = packed.write(train, test, tmp_path)
    whole = data.load("cifar10", tmp_path)
    assert (len(whole.train_images), len(whole.test_images)) == (30, 11)
    expected = data.standardize(train[0].astype(np.float32) / 255)
    np.testing.assert_array_equal(whole.train_images, expected)
    content = first.read_bytes()
    for damaged in (content[:2000], b"", content[:1500] + b"\0\1\2" + content[1503:]):
        first.write_bytes(damaged)
        with pytest.raises(data.DataError, match=r"part\*\.npz in .* is damaged .*; pack it again"):
            data.load("cifar10", tmp_path)
    first.unlink()
    with pytest.raises(data.DataError, match=r"data_batch_1\.bin is missing"):
        data.load("cifar10", tmp_path)


@pytest.mark.slow
def test_the_real_images_come_back_to_the_bit_from_two_files_below_60_mb(data_dir, tmp_path):
    assert accelerator.main(["pack", "--data-dir", str(data_dir), "--out", str(tmp_path)]) == 0
    assert all(path.stat().st_size < 60e6 for path in tmp_path.iterdir())
    for ours, theirs in zip(packed.read(tmp_path), data.READERS["cifar10"](data_dir), strict=True):
        for left, right in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(left, right)


def test_pieces_end_where_the_experiments_in_one_go_do(tmp_path, trained, capsys, monkeypatch):
    given = ["run", "--preset", "smoke", "--seeds", "2", "--cells", str(tmp_path)]
    now = 0.0
    monkeypatch.setattr(accelerator.time, "time", lambda: now)

    def slow(config, *rest, **kept):
        nonlocal now
        now += 60
        return fake_train(config, *rest, **kept)

    monkeypatch.setattr(sweep, "train", slow)
    codes = []
    while not codes or (codes[-1] == command.UNFINISHED and len(codes) < 40):
        codes.append(accelerator.main([*given, "--minutes", "3.5"]))
    assert codes[-1] == 0
    found = list(cells.every(tmp_path, Config))
    # Pieces of four runs each, which the last epoch of a run may not be stopped after.
    assert len(codes) == -(-len(found) // 4)
    for module in (batch_size, explicit_penalty, paper_table):
        end = ["--preset", "smoke", "--seeds", "2", "--cells", str(tmp_path), "--plot-only"]
        assert module.main([*end, "--out", str(tmp_path / "out")]) == 0
        assert "cells are missing" not in capsys.readouterr().err


def test_the_estimate_counts_what_is_left_by_measurement_and_by_arithmetic(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(accelerator, "seconds_of_step", lambda config, seeds, steps: 60.0)
    given = ["estimate", "--preset", "smoke", "--seeds", "1", "--cells", str(tmp_path)]
    assert accelerator.main([*given, "--step-seconds", "120"]) == 0
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if "batch_size" in line).split()
    # b = 32 with and without the penalty and b = 16 of 64 images: 2 + 2 + 4 steps.
    assert [float(number) for number in line[-2:]] == [8.0, 16.0]
    assert "pieces of 8 minutes" in printed


def test_a_step_is_measured_alone_and_as_an_ensemble():
    config = Config("digits", 64, 32, 16, 1, network="tiny")
    for num_seeds in (1, 2):
        assert 0 < accelerator.seconds_of_step(config, num_seeds, 2) < 5
    assert dataclasses.replace(config, seed=1) != config
