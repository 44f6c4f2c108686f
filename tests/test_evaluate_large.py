"""Models larger than the memory that their evaluation takes."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import sharded_model

ROOT = Path(__file__).parents[1]
MATRIX = 4 * sharded_model.ROWS * sharded_model.COLS


def evaluate(folder, num_bytes, num_random):
    if shutil.disk_usage(folder).free < 2 * num_bytes:
        pytest.skip(f"needs {2 * num_bytes} free bytes in {folder}, where files may not be sparse")
    sharded_model.write(folder, num_bytes, num_random)
    done = subprocess.run(
        [sys.executable, Path(sharded_model.__file__), folder],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=900,
        check=True,
    )
    result = json.loads(done.stdout)
    assert result["num_matrices"] * MATRIX == num_bytes
    assert result["num_phases"] == {"RANDOM_LIKE": num_random}
    return result


def test_a_model_is_never_in_memory_as_a_whole(tmp_path):
    num_bytes = 12 * MATRIX
    result = evaluate(tmp_path, num_bytes, 2)
    assert result["peak"] - result["before"] < 0.8 * num_bytes


@pytest.mark.slow
def test_six_gigabytes_within_a_gigabyte_and_a_half_and_twice_the_largest_matrix(tmp_path):
    result = evaluate(tmp_path, 96 * MATRIX, sharded_model.NUM_SHARDS)
    assert 96 * MATRIX > 6e9
    assert result["peak"] <= 1.5e9 + 2 * MATRIX
