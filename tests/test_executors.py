"""Evaluations on threads, processes and clusters, and evaluations that were killed."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from draws import RNG
from safetensors.numpy import save_file
from threadpoolctl import threadpool_info, threadpool_limits

import fitting
from fitting._evaluation import _execution, describe, run

ROOT = Path(__file__).parents[1]
PARAMS = {
    "conv": {"kernel": RNG.standard_normal((2, 2, 60, 80))},
    "zero": {"kernel": np.zeros((20, 20))},
    "nan": {"kernel": np.full((20, 20), np.nan)},
} | {f"fc{i}": {"kernel": RNG.standard_t(3, (60, 40))} for i in range(5)}


@pytest.fixture(scope="module")
def expected():
    return fitting.evaluate(PARAMS, progress=False)


def assert_same(report, expected):
    pd.testing.assert_frame_equal(report.layers, expected.layers)
    pd.testing.assert_frame_equal(report.skipped, expected.skipped)
    assert report.spectra.keys() == expected.spectra.keys()
    for key, eigenvalues in expected.spectra.items():
        np.testing.assert_array_equal(report.spectra[key], eigenvalues)


def test_threads_give_the_report_of_one_after_the_other(expected, monkeypatch):
    monkeypatch.setattr(_execution, "num_cores", lambda: 1)
    assert_same(fitting.evaluate(PARAMS, progress=False), expected)
    with ThreadPoolExecutor(3) as executor:
        assert_same(fitting.evaluate(PARAMS, progress=False, executor=executor), expected)


@pytest.mark.slow
def test_processes_give_the_same_report(expected):
    import multiprocessing

    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(2, mp_context=context) as executor:
        assert_same(fitting.evaluate(PARAMS, progress=False, executor=executor), expected)


@pytest.mark.slow
def test_a_killed_worker_of_a_dask_cluster_changes_nothing(tmp_path):
    pytest.importorskip("distributed", reason="needs distributed")
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("killed_worker.py"), tmp_path],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=300,
        check=True,
    )
    assert 3 <= int(done.stdout) < 40


def test_tasks_in_hand_stay_within_the_memory_and_a_large_one_runs_alone(monkeypatch):
    monkeypatch.setattr(_execution, "num_cores", lambda: 4)
    monkeypatch.setattr(_execution, "MEMORY", 10)
    lock, running, seen = threading.Lock(), [], []

    def task(size):
        with lock:
            running.append(size)
            seen.append(tuple(running))
        time.sleep(0.01)
        with lock:
            running.remove(size)
        return -size

    sizes = [4, 5, 3, 11, 4, 4, 4, 20]
    results = run(task, sizes, num_bytes=lambda size: size)
    assert sorted(result for _, result in results) == sorted(-size for size in sizes)
    assert all(len(sizes) == 1 or sum(sizes) <= 10 for sizes in seen)
    assert max(map(len, seen)) > 1


@pytest.mark.parametrize("num_cores", [1, 3])
def test_our_threads_leave_no_others_to_blas_and_give_them_back(monkeypatch, num_cores):
    def num_blas_threads(task=None):
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    monkeypatch.setattr(_execution, "num_cores", lambda: num_cores)
    with threadpool_limits(2, user_api="blas"):
        before = num_blas_threads()
        assert [found for _, found in run(num_blas_threads, range(4))] == [{1}] * 4
        assert num_blas_threads() == before


def test_a_large_task_that_runs_alone_has_all_cores(monkeypatch):
    def num_blas_threads(task=None):
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    monkeypatch.setattr(_execution, "num_cores", lambda: 2)
    large = _execution.PARALLEL
    for sizes, expected in (
        ([large], [{2}]),  # nothing else is to come
        ([1], [{1}]),  # not worth it
        ([2 * _execution.MEMORY, 1, 1], [{2}, {1}, {1}]),  # the others must wait
    ):
        results = run(lambda size: (size, num_blas_threads()), sizes, num_bytes=lambda size: size)
        found = sorted((found for _, found in results), key=lambda pair: -pair[0])
        assert [threads for _, threads in found] == expected


def test_an_error_says_which_weight_and_cancels_the_others(monkeypatch):
    monkeypatch.setattr(_execution, "num_cores", lambda: 2)

    def bad(unit, **options):
        raise OSError("disk gone")

    monkeypatch.setattr("fitting._evaluation._evaluate.spectra", bad)
    with pytest.raises(OSError, match="disk gone") as error:
        fitting.evaluate(PARAMS, progress=False)
    assert error.value.__notes__[0].startswith("while measuring ")


def test_out_and_resume(expected, tmp_path, monkeypatch):
    out = tmp_path / "out"
    report = fitting.evaluate(PARAMS, out=out, progress=False)
    assert_same(report, expected)
    assert_same(fitting.load_report(out / "report.json"), expected)
    files = sorted((out / "weights").iterdir())
    assert len(files) == len(PARAMS)
    with pytest.raises(ValueError, match="resume=True"):
        fitting.evaluate(PARAMS, out=out, progress=False)

    files[0].write_bytes(files[0].read_bytes()[:100])
    files[1].unlink()
    measured = []
    real = fitting._evaluation._evaluate.measure_unit

    def count(unit, **options):
        measured.append(unit.name)
        return real(unit, **options)

    monkeypatch.setattr("fitting._evaluation._evaluate.measure_unit", count)
    assert_same(fitting.evaluate(PARAMS, out=out, resume=True, progress=False), expected)
    assert len(measured) == 2


def test_resume_refuses_another_model_and_other_options(tmp_path, monkeypatch):
    out = tmp_path / "out"
    path = tmp_path / "a.safetensors"
    save_file({"fc.weight": PARAMS["fc0"]["kernel"]}, path)
    fitting.evaluate(path, out=out, progress=False)
    fitting.evaluate(path, out=out, resume=True, progress=False)
    with pytest.raises(ValueError, match=r"differ in options: conv was 'slices', is 'pooled'"):
        fitting.evaluate(path, out=out, resume=True, conv="pooled", progress=False)
    # Rows of another version of the report are not mixed with today's.
    with monkeypatch.context() as patch:
        patch.setattr("fitting._evaluation._evaluate.FORMAT", 0)
        with pytest.raises(ValueError, match=r"differ in options: format was \d, is 0"):
            fitting.evaluate(path, out=out, resume=True, progress=False)
    save_file({"fc.weight": PARAMS["fc1"]["kernel"]}, path)
    with pytest.raises(ValueError, match=r"differ in files: a\.safetensors was"):
        fitting.evaluate(path, out=out, resume=True, progress=False)
    params = {"fc": {"kernel": np.ones((20, 20))}}
    fitting.evaluate(params, out=tmp_path / "other", progress=False)
    params = {"fc": {"kernel": np.eye(20)}}
    with pytest.raises(ValueError, match="differ in contents"):
        fitting.evaluate(params, out=tmp_path / "other", resume=True, progress=False)
    with pytest.raises(ValueError, match="a file; expected a folder"):
        fitting.evaluate(params, out=path, progress=False)
    with pytest.raises(ValueError, match="out is None; expected the folder"):
        fitting.evaluate(params, resume=True, progress=False)


@pytest.mark.parametrize("content", ["[1", "3", '{"options": 3}'])
def test_a_damaged_folder_is_not_gone_on_with(tmp_path, content):
    (tmp_path / "evaluation.json").write_text(content)
    params = {"fc": {"kernel": np.eye(20)}}
    with pytest.raises(ValueError, match=r"evaluation\.json is damaged"):
        fitting.evaluate(params, out=tmp_path, resume=True, progress=False)
    assert (tmp_path / "evaluation.json").read_text() == content


def test_what_is_written_inside_the_folder_of_the_model_does_not_change_it(tmp_path):
    (tmp_path / "a.bin").write_text("a")
    out = tmp_path / "out"
    before = describe(tmp_path, {}, {}, out)
    assert list(before["files"]) == ["a.bin"]
    out.mkdir()
    (out / "report.json").write_text("{}")
    assert describe(tmp_path, {}, {}, out) == before
    (tmp_path / "b.bin").write_text("b")
    assert describe(tmp_path, {}, {}, out) != before


def test_kill_loses_at_most_the_weights_in_hand(expected, tmp_path):
    save_file(
        {f"{name}.kernel": layer["kernel"] for name, layer in PARAMS.items()},
        tmp_path / "a.safetensors",
    )
    program = f"""
import threading, time
import fitting, fitting._evaluation._evaluate, fitting._evaluation._execution
fitting._evaluation._execution.num_cores = lambda: 1
real, count = fitting._evaluation._evaluate.measure_unit, []
def slow(unit, **options):
    if len(count) == 3:
        print("fourth weight", flush=True)
        time.sleep(100)
    count.append(unit)
    return real(unit, **options)
fitting._evaluation._evaluate.measure_unit = slow
fitting.evaluate({str(tmp_path / "a.safetensors")!r}, out={str(tmp_path / "out")!r}, progress=False)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "fourth weight\n"
        process.send_signal(signal.SIGKILL)
    files = list((tmp_path / "out" / "weights").iterdir())
    assert len(files) == 3
    assert not (tmp_path / "out" / "report.json").exists()
    before = {file: file.stat().st_mtime_ns for file in files}
    report = fitting.evaluate(
        tmp_path / "a.safetensors", out=tmp_path / "out", resume=True, progress=False
    )
    assert {file: file.stat().st_mtime_ns for file in files} == before
    plain = fitting.evaluate(tmp_path / "a.safetensors", progress=False)
    assert_same(report, plain)
