"""The authors' own numbers for MiniAlexNet, to be held against ours.

From the notebooks behind the figures of C. Martin and M. Mahoney, 2021. Ranks and accuracies were
digitised or read by eye off their plots (about 2 % on stable ranks); spikes and phases were set by
hand there. The largest batch size of theirs, 1000, is left out.
"""

from typing import NamedTuple


class Sweep(NamedTuple):
    """One batch size of their sweep: FC1 pooled over 10 runs, accuracies over 7 of them.

    Attributes:
        stable_rank: Of the pooled spectrum of FC1.
        mp_soft_rank: Of FC1; 0 at b = 2 by decree.
        spikes: Of FC1, in a run.
        spikes_fc2: Of FC2, in a run.
        train: Training accuracy.
        test: Test accuracy.
        phase: Of FC1.
    """

    stable_rank: float | None = None
    mp_soft_rank: float | None = None
    spikes: float | None = None
    spikes_fc2: float | None = None
    train: float | None = None
    test: float | None = None
    phase: str = ""


SWEEP = {
    500: Sweep(222, 1.0, 0, 0, 0.861, 0.695, "RANDOM_LIKE"),
    250: Sweep(215, 1.0, 0, 0, 0.948, 0.710, "RANDOM_LIKE"),
    100: Sweep(None, None, 7.5, 7.5, None, None, "BLEEDING_OUT"),
    50: Sweep(184, 0.80, 9, 9, 0.992, 0.738, "BULK_SPIKES"),
    32: Sweep(169, 0.74, 9, 9, 0.993, 0.749, "BULK_SPIKES"),
    16: Sweep(142, 0.60, 17.5, 9, 0.995, 0.761, "BULK_DECAY"),
    8: Sweep(109, 0.44, 32.5, 9, 0.995, 0.769, "BULK_DECAY"),
    4: Sweep(78, 0.29, 48.5, 9, 0.997, 0.771, "BULK_DECAY"),
    2: Sweep(48.4, 0.0, None, 16.5, 0.997, 0.761, "HEAVY_TAILED"),
}


class Run(NamedTuple):
    """One run to its end at b = 16: FC1, then FC2."""

    stable_rank: tuple[float, float]
    entropy: tuple[float, float]
    test: float


RUNS = {
    "start": Run((221, 67), (0.992, 0.9524), float("nan")),
    "baseline": Run((149, 51), (0.9895, 0.9457), 0.763),
    "L2": Run((55.5, 16), (0.966, 0.8445), 0.774),
    "dropout": Run((65, 36), (0.977, 0.9295), 0.79),
}

# Of FC1 in the baseline, 10 runs: the bulk, then nine spikes.
LOCALIZATION = {"localization_ratio": (97.73, 82.91), "participation_ratio": (3.371, 3.209)}

# An independent sweep of learning rates at b = 64, the phases named by eye.
LEARNING_RATES = {
    0.00128: "RANDOM_LIKE",
    0.01: "BLEEDING_OUT",
    0.02: "BULK_SPIKES",
    0.08: "BULK_DECAY",
    0.16: "HEAVY_TAILED",
}
