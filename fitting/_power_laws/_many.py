"""Many spectra in one call, on all cores."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from numpy.typing import ArrayLike

from .._cores import num_cores
from ._goodness import goodness_of_fit
from ._power_law import PowerLawFit, fit_power_law


@dataclass(frozen=True)
class PowerLawFits:
    """The fits of many spectra, in their order.

    Attributes:
        fits: One for each spectrum.
        p_values: The :func:`goodness_of_fit` of each, or None where it was not asked for.
    """

    fits: tuple[PowerLawFit, ...]
    p_values: tuple[float, ...] | None


def fit_power_laws(
    spectra: Iterable[ArrayLike],
    *,
    min_tail: int = 2,
    ks: Literal["one-sided", "two-sided"] = "one-sided",
    num_bootstrap: int = 0,
    key: int = 0,
    num_threads: int | None = None,
) -> PowerLawFits:
    """Fits a power law to each of many spectra, on all cores.

    Gives what :func:`fit_power_law` gives for one after the other, and with num_bootstrap what
    :func:`goodness_of_fit` does. Threads suffice, since the compiled search holds no lock.

    Args:
        spectra: Eigenvalues, ``[M_1], [M_2], ...``, of any lengths.
        min_tail: Fewest eigenvalues that a tail may have.
        ks: "one-sided" or "two-sided", as for :func:`fit_power_law`.
        num_bootstrap: Number of simulations for each p-value; 0 for none.
        key: Seed of the simulations. The i-th spectrum takes key + i, whatever thread it is on.
        num_threads: How many; by default one for each core that this process may use.

    Returns:
        The fits, and the p-values if num_bootstrap is positive.

    Raises:
        ValueError: If a spectrum cannot be fitted (as for :func:`fit_power_law`; the message says
            which), or
            num_bootstrap or num_threads is too small.

    Example:
        >>> import numpy as np
        >>> import fitting
        >>> generator = np.random.default_rng(0)
        >>> spectra = [generator.pareto(1.5, size=n) + 1 for n in (200, 300)]
        >>> [fit.num_eigenvalues for fit in fitting.fit_power_laws(spectra).fits]
        [200, 300]
    """
    if num_bootstrap < 0:
        raise ValueError(f"num_bootstrap is {num_bootstrap}; expected 0 or more")
    num_threads = num_cores() if num_threads is None else num_threads
    if num_threads < 1:
        raise ValueError(f"num_threads is {num_threads}; expected 1 or more, or None")

    def fit_one(index: int, eigenvalues: ArrayLike) -> tuple[PowerLawFit, float]:
        try:
            fit = fit_power_law(eigenvalues, min_tail=min_tail, ks=ks)
        except ValueError as error:
            raise ValueError(f"spectrum {index}: {error}") from None
        if not num_bootstrap:
            return fit, 0.0
        return fit, goodness_of_fit(eigenvalues, fit, num_bootstrap=num_bootstrap, key=key + index)

    listed = list(spectra)
    with ThreadPoolExecutor(num_threads) as executor:
        results = list(executor.map(fit_one, range(len(listed)), listed))
    return PowerLawFits(
        fits=tuple(fit for fit, _ in results),
        p_values=tuple(p for _, p in results) if num_bootstrap else None,
    )
