"""The public claims: every program can be traced, cells resume, and the statistics decide."""

import jax
import jax.numpy as jnp
import pytest

from examples.claims.engine import run_trials
from examples.claims.registry import CLAIMS

pytestmark = pytest.mark.usefixtures("promoted_types", "quick_to_compile")

# Programs that arms share are traced once.
PROGRAMS = {
    (name, id(arm.program)): (name, arm_name)
    for name, claim in CLAIMS.items()
    for arm_name, arm in claim.arms.items()
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "arm"), PROGRAMS.values())
def test_every_program_can_be_traced(name, arm, tasks):
    claim = CLAIMS[name]
    preset = claim.presets["smoke"]
    own = claim.arms[arm]
    (setting, *_) = own.grid or claim.arms[own.tuned_as].grid
    task = tasks(name)
    settings = {key: jnp.array([value]) for key, value in setting.items()}
    measured = jax.eval_shape(
        lambda settings, seeds: run_trials(task, own.program, preset.budget, settings, seeds),
        settings,
        jnp.zeros(1, jnp.int32),
    )
    assert measured["loss"].shape == (1, preset.budget.num_chunks)


@pytest.fixture(scope="module")
def tasks():
    made = {}

    def task_of(name):
        if name not in made:
            claim = CLAIMS[name]
            made[name] = claim.make_task(claim.presets["smoke"].task, None)
        return made[name]

    return task_of
