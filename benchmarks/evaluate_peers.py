"""Times WeightWatcher; run by benchmarks/evaluate.py in the environment that it makes for it.

python evaluate_peers.py question.npz   ->   {"mode": [seconds of each checkpoint]} as JSON
"""

import contextlib
import io
import json
import logging
import sys
import time
import warnings
from typing import Any

import numpy as np
import torch
import weightwatcher

MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "slices": {"pool": False},
    "full": {"mp_fit": True, "randomize": True},
}


def analyze(path: str, options: dict[str, Any]) -> None:
    """Reads a checkpoint and analyzes it."""
    content = torch.load(path, map_location="cpu", weights_only=True)
    state_dict = content.get("model_state_dict") or content.get("state_dict") or content
    state_dict = {name.removeprefix("module."): value for name, value in state_dict.items()}
    weightwatcher.WeightWatcher(model=state_dict).analyze(**options)


def main() -> None:
    """Times each mode on each checkpoint: the best of some, or of one that takes over a second."""
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    question = np.load(sys.argv[1])
    results: dict[str, list[float]] = {}
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        analyze(str(question["paths"][0]), {})
        for mode in question["modes"].tolist():
            results[mode] = []
            for path in question["paths"].tolist():
                seconds: list[float] = []
                while not seconds or (len(seconds) < question["repeats"] and max(seconds) < 1):
                    start = time.perf_counter()
                    analyze(path, MODES[mode])
                    seconds.append(time.perf_counter() - start)
                results[mode].append(min(seconds))
    print(json.dumps(results))


if __name__ == "__main__":
    main()
