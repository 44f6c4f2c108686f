"""The spectra of several runs of one network, looked at as one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .._checks import check_shape, sorted_spectrum
from ._bulk_fit import MarchenkoPasturFit, fit_marchenko_pastur


@dataclass(frozen=True, eq=False)
class PooledSpectrum:
    """Eigenvalues of several matrices of one shape; NumPy converts it to their array.

    Attributes:
        eigenvalues: All of them, descending.
        num_runs: From how many matrices.
        fits: The fit of each matrix alone; empty if no shape was given.
    """

    eigenvalues: NDArray[np.float64] = field(repr=False)
    num_runs: int
    fits: tuple[MarchenkoPasturFit, ...] = field(repr=False)

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.float64]:
        """The eigenvalues."""
        return np.array(self.eigenvalues, dtype=dtype, copy=copy)

    @property
    def stable_rank(self) -> float:
        """Stable rank of a run, its mean squared norm over the largest eigenvalue of all runs.

        It lies below the mean of the runs' own, as only one of them holds the largest.
        """
        if not self.eigenvalues[0] > 0:
            return 1.0
        return float(self.eigenvalues.sum() / self.num_runs / self.eigenvalues[0])

    @property
    def lambda_plus(self) -> float:
        """Mean of the edges of the runs, each fitted alone."""
        return self._mean("lambda_plus")

    @property
    def sigma2(self) -> float:
        """Mean of the bulk variances of the runs."""
        return self._mean("sigma2")

    @property
    def num_spikes(self) -> float:
        """Mean number of spikes of a run."""
        return self._mean("num_spikes")

    @property
    def mp_soft_rank(self) -> float:
        """The edge over the largest eigenvalue of all runs, at most 1; NaN where all are zero."""
        if not self.eigenvalues[0] > 0:
            return math.nan
        return min(self.lambda_plus / float(self.eigenvalues[0]), 1.0)

    def _mean(self, name: str) -> float:
        if not self.fits:
            raise ValueError(
                f"{name} is missing, as the runs were not fitted; expected a shape in pool_spectra"
            )
        return float(np.mean([getattr(fit, name) for fit in self.fits]))


def pool_spectra(
    list_of_eigenvalues: Sequence[ArrayLike], shape: tuple[int, int] | None = None
) -> PooledSpectrum:
    r"""Pools the spectra of several runs; the edge of their bulk is the mean of the runs' own.

    .. math:: \bar\lambda_+ = \frac1n \sum_r \lambda_+^{(r)}, \qquad
        \bar R_s = \frac{\frac1n \sum_r \|W_r\|_F^2}{\max_r \lambda_{max}^{(r)}}

    n runs have n times as many eigenvalues near the edge as one matrix of their shape, and the
    largest of them lies further out: a fit of the pool that reads its edge off the extremes, as is
    done for the papers' Figure 5, is too high.

    Args:
        list_of_eigenvalues: Squared singular values of each run, any order, shape [M] each.
        shape: Sides of the matrices, needed for all that is fitted.

    Returns:
        ``PooledSpectrum``. Costs a sort and a fit a run.

    Raises:
        ValueError: If there is no run, the runs differ in length, or as for
            ``fit_marchenko_pastur``.

    Example:
        >>> import numpy as np, fitting
        >>> rng = np.random.default_rng(0)
        >>> runs = [np.linalg.svd(rng.normal(size=(400, 100)) / 20)[1] ** 2 for _ in range(10)]
        >>> pooled = fitting.pool_spectra(runs, (400, 100))
        >>> len(pooled.eigenvalues), round(pooled.lambda_plus, 2), pooled.num_spikes
        (1000, 2.26, 0.0)

    References:
        C. Martin and M. Mahoney, 2021, Figure 5 (pooled spectra of 10 runs).
    """
    if not len(list_of_eigenvalues):
        raise ValueError(
            "list_of_eigenvalues is empty; expected the eigenvalues of at least one run"
        )
    spectra = [sorted_spectrum(eigenvalues) for eigenvalues in list_of_eigenvalues]
    lengths = sorted({spectrum.size for spectrum in spectra})
    if len(lengths) > 1:
        raise ValueError(
            f"list_of_eigenvalues has spectra of {lengths[0]} to {lengths[-1]} eigenvalues; "
            "expected runs of one shape"
        )
    fits: tuple[MarchenkoPasturFit, ...] = ()
    if shape is not None:
        check_shape(spectra[0], shape)
        fits = tuple(fit_marchenko_pastur(spectrum, shape) for spectrum in spectra)
    return PooledSpectrum(np.sort(np.concatenate(spectra))[::-1], len(spectra), fits)
