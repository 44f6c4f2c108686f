"""Writes and evaluates models larger than memory should be; run by test_evaluate_large.py.

python sharded_model.py FOLDER NUM_BYTES   ->   {"peak": bytes, "before": bytes, ...} as JSON
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np

import fitting

ROWS, COLS = 65536, 256
NUM_SHARDS = 4


def write(folder: Path, num_bytes: int, num_random: int) -> None:
    """A sharded safetensors model of float32 matrices, sparse on the disk: few are not zero."""
    matrix_bytes = 4 * ROWS * COLS
    num_each = num_bytes // (matrix_bytes * NUM_SHARDS)
    places = {}
    for shard in range(NUM_SHARDS):
        file_name = f"model-{shard + 1:05}-of-{NUM_SHARDS:05}.safetensors"
        names = [f"blocks.{shard}.{number}.fc.weight" for number in range(num_each)]
        places |= dict.fromkeys(names, file_name)
        header = json.dumps(
            {
                name: {
                    "dtype": "F32",
                    "shape": [ROWS, COLS],
                    "data_offsets": [number * matrix_bytes, (number + 1) * matrix_bytes],
                }
                for number, name in enumerate(names)
            }
        ).encode()
        with (folder / file_name).open("wb") as file:
            file.write(len(header).to_bytes(8, "little") + header)
            start = file.tell()
            if shard < num_random:
                values = np.random.default_rng(shard).standard_normal((ROWS, COLS), np.float32)
                file.write(values.tobytes())
            file.truncate(start + num_each * matrix_bytes)
    index = {"metadata": {"total_size": num_bytes}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        # ru_maxrss of a child starts at its parent's peak, which another test may have raised
        (line,) = (s for s in status.read_text().splitlines() if s.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def main() -> None:
    """Evaluates the folder."""
    before = peak()
    report = fitting.evaluate(sys.argv[1], progress=False)
    print(json.dumps({"before": before, "peak": peak(), **report.summary}))


if __name__ == "__main__":
    main()
