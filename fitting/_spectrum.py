"""What every fit makes of the eigenvalues that it is given."""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray


def sorted_spectrum(eigenvalues: ArrayLike) -> NDArray[np.float64]:
    """Eigenvalues as a sorted float64 vector, or a ValueError that says what is wrong with them."""
    values = np.asarray(eigenvalues)
    if values.ndim != 1:
        raise ValueError(
            f"expected eigenvalues as a vector, got an array of shape {values.shape}; "
            "for a matrix pass its squared singular values"
        )
    if values.size == 0:
        raise ValueError("expected at least one eigenvalue, got an empty array")
    if not np.issubdtype(values.dtype, np.number) or np.iscomplexobj(values):
        # bfloat16 and its kin are no subtype of np.number, yet cast well
        try:
            values = values.astype(np.float64, casting="same_kind")
        except TypeError:
            raise ValueError(
                f"expected real eigenvalues, got dtype {values.dtype}; cast them to float64"
            ) from None
    values = np.sort(values.astype(np.float64, copy=False))
    # NaN sorts to the end and -inf to the front: the two ends say it all
    if not np.isfinite(values[-1]) or not np.isfinite(values[0]):
        bad = int(np.count_nonzero(~np.isfinite(values)))
        raise ValueError(
            f"expected finite eigenvalues, got {bad} of {values.size} that are NaN or infinite; "
            "look for NaN in the weights"
        )
    if values[0] < 0:
        raise ValueError(
            f"expected non-negative eigenvalues (squared singular values), got {values[0]:.6g}; "
            "where this is rounding in an eigensolver, clip with numpy.maximum(eigenvalues, 0)"
        )
    return values


def log_spectrum(positive: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Logs of the sorted positive eigenvalues over the largest, and the log of the largest."""
    if positive.size == 0:
        return positive, 0.0
    ratios = positive / positive[-1]
    # Dividing first keeps nearly equal values apart; it is not possible where it underflows.
    if ratios[0] > np.finfo(np.float64).tiny:
        return np.log(ratios), math.log(positive[-1])
    return np.log(positive) - math.log(positive[-1]), math.log(positive[-1])
