"""Whether the attack of the claim on robustness finds most of what a longer one does.

`python -m benchmarks.attack --data-dir FOLDER` trains the claim's arms at its preset `small` and
attacks each network as the claim does, and with five times as many steps from several starts.
"""

import argparse
from pathlib import Path

import jax
import jax.numpy as jnp

from examples.claims import images, noise, robustness
from examples.claims.engine import Measures, run_trials
from examples.claims.robustness import ATTACKED, NUM_STEPS

# Of every arm the setting that the claim takes.
SETTINGS = {
    "adam": {"rate": 1.6e-2, "decay": 0.0},
    "l2": {"rate": 8e-3, "decay": 0.0, "strength": 1e-2},
    "weight decay": {"rate": 8e-3, "decay": 0.3},
    "cap": {"rate": 8e-3, "decay": 0.0, "strength": 0.3},
    "hard cap": {"rate": 8e-3, "decay": 0.0, "bound": 1.4},
}
TIMES = 5


def judged(num_starts: int, data: dict[str, jax.Array], params: images.Params) -> Measures:
    """Accuracies after both attacks."""
    pixels, labels = robustness.to_attack(data, "test")

    def right(changed: jax.Array) -> jax.Array:
        return jnp.argmax(images.logits_of(params, changed), axis=-1) == labels

    def from_a_start(key: jax.Array) -> jax.Array:
        start = jax.random.normal(key, pixels.shape)
        longer = {"num_steps": TIMES * NUM_STEPS, "start": start}
        return right(robustness.attacked(params, pixels, labels, **longer))

    usual = right(robustness.attacked(params, pixels, labels))
    keys = jax.random.split(jax.random.key(0), num_starts)
    after_all = usual & jnp.all(jax.lax.map(from_a_start, keys), axis=0)
    return {
        "usual": jnp.mean(usual.astype(jnp.float32)),
        "longer": jnp.mean(after_all.astype(jnp.float32)),
    }


def main() -> None:
    """Prints one line an arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="the folder that holds mnist/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--starts", type=int, default=5)
    options = parser.parse_args()
    preset = ATTACKED.presets["small"]
    task = noise.make_task(preset.task, options.data_dir)
    task = task._replace(judged=lambda data, params: judged(options.starts, data, params))
    seeds = jnp.arange(options.seeds)
    longer = f"{options.starts} starts of {TIMES * NUM_STEPS}"
    print(f"{'arm':12} {f'{NUM_STEPS} steps':>10} {longer:>20}")
    for arm, setting in SETTINGS.items():
        settings = {name: jnp.full(options.seeds, value) for name, value in setting.items()}
        program = ATTACKED.arms[arm].program
        found = run_trials(task, program, preset.budget, settings, seeds)
        print(f"{arm:12} {jnp.mean(found['usual']):10.4f} {jnp.mean(found['longer']):20.4f}")


if __name__ == "__main__":
    main()
