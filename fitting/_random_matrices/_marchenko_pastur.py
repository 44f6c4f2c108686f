"""The Marchenko-Pastur law for matrices with unequal or equal sides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True)
class MarchenkoPastur:
    r"""The limit law of the squared singular values of a random matrix.

    .. math:: \rho(\lambda) = \frac{Q}{2\pi\sigma^2}
        \frac{\sqrt{(\lambda_+ - \lambda)(\lambda - \lambda_-)}}{\lambda},
        \qquad \lambda_\pm = \sigma^2 (1 \pm Q^{-1/2})^2

    It holds for every element law with a finite fourth moment, Gaussian or not. At ``Q = 1`` the
    lower edge is 0 and the density diverges there as :math:`1/(\pi\sqrt{\sigma^2\lambda})`.

    Args:
        Q: Aspect ratio N / M of the matrix, long side over short side, at least 1.
        sigma2: Scale, in the normalization of the eigenvalues: N times the variance of an
            element for the eigenvalues of W^T W, the variance itself for those of W^T W / N.

    Raises:
        ValueError: If Q is below 1 or sigma2 is not positive and finite.

    Example:
        >>> import fitting
        >>> law = fitting.MarchenkoPastur(Q=4.0)
        >>> law.edges
        (0.25, 2.25)
        >>> float(law.cdf(2.25))
        1.0

    References:
        V. Marchenko and L. Pastur, 1967; Martin and Mahoney, 2019, Eq. 1.
    """

    Q: float
    sigma2: float = 1.0

    def __post_init__(self) -> None:
        if not (np.isfinite(self.Q) and self.Q >= 1):
            raise ValueError(
                f"Q is {self.Q}; expected at least 1, the long side over the short; pass N / M "
                "with N = max(shape) and M = min(shape)"
            )
        if not (np.isfinite(self.sigma2) and self.sigma2 > 0):
            raise ValueError(f"sigma2 is {self.sigma2}; expected a positive, finite number")

    @property
    def edges(self) -> tuple[float, float]:
        """Lower and upper end of the support, (lambda_minus, lambda_plus)."""
        root = self.Q**-0.5
        return self.sigma2 * (1 - root) ** 2, self.sigma2 * (1 + root) ** 2

    def pdf(self, x: ArrayLike) -> NDArray[np.float64]:
        """Density at x: 0 outside the edges, infinite at 0 when Q is 1.

        Args:
            x: Eigenvalues, any shape.

        Returns:
            Densities, the shape of x.
        """
        x = np.asarray(x, dtype=np.float64)
        low, high = self.edges
        inside = (x >= low) & (x <= high)
        safe = np.where(inside & (x > 0), x, 1.0)
        height = np.sqrt(np.maximum((high - safe) * (safe - low), 0.0))
        density = self.Q * height / (2 * np.pi * self.sigma2 * safe)
        density = np.where(inside, density, 0.0)
        return np.where((x == 0) & (low == 0), np.inf, density)

    def cdf(self, x: ArrayLike) -> NDArray[np.float64]:
        """Share of the eigenvalues at or below x, in closed form.

        Args:
            x: Eigenvalues, any shape.

        Returns:
            Probabilities in [0, 1], the shape of x.
        """
        return self.cdf_of_angle(self.angle_of_eigenvalue(np.asarray(x, dtype=np.float64)))

    def ppf(self, p: ArrayLike) -> NDArray[np.float64]:
        """Quantiles: the inverse of ``cdf``.

        Args:
            p: Probabilities in [0, 1], any shape.

        Returns:
            Eigenvalues, the shape of p.

        Raises:
            ValueError: If a probability is outside [0, 1].
        """
        p = np.asarray(p, dtype=np.float64)
        if not np.all((p >= 0) & (p <= 1)):
            bad = p[~((p >= 0) & (p <= 1))].flat[0]
            raise ValueError(f"p is {bad:.6g}; expected probabilities in [0, 1]")
        grid = np.linspace(0.0, np.pi, 257)
        share = np.maximum.accumulate(self.cdf_of_angle(grid))
        cell = np.clip(np.searchsorted(share, p, side="right") - 1, 0, grid.size - 2)
        low, high = grid[cell], grid[cell + 1]
        angle = np.interp(p, share, grid)
        # Newton, or a bisection where it would leave the bracket: at both ends the slope is 0.
        for _ in range(60):
            miss = self.cdf_of_angle(angle) - p
            low, high = np.where(miss <= 0, angle, low), np.where(miss > 0, angle, high)
            slope = self._slope_of_angle(angle)
            step = angle - miss / np.where(slope > 0, slope, 1.0)
            inside = (slope > 0) & (step > low) & (step < high)
            step = np.where(inside, step, (low + high) / 2)
            done = np.all(np.abs(step - angle) <= 1e-12)
            angle = step
            if done:
                break
        angle = np.where(p <= 0, 0.0, np.where(p >= 1, np.pi, angle))
        return self.eigenvalue_of_angle(angle)

    # With lambda = sigma2 (1 + c - 2 sqrt(c) cos(angle)), c = 1/Q, the square roots at both edges
    # and the pole at 0 for Q = 1 cancel: the formulas below hold for each Q >= 1 without a case.

    def angle_of_eigenvalue(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Angle in [0, pi] of an eigenvalue; outside the edges that of the nearer edge."""
        low, high = self.edges
        return np.arccos(np.clip((low + high - 2 * x) / (high - low), -1.0, 1.0))

    def eigenvalue_of_angle(self, angle: NDArray[np.float64]) -> NDArray[np.float64]:
        """Inverse of ``angle_of_eigenvalue``."""
        root = self.Q**-0.5
        return self.sigma2 * ((1 - root) ** 2 + 4 * root * np.sin(angle / 2) ** 2)

    def cdf_of_angle(self, angle: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the eigenvalues at or below that of an angle."""
        root = self.Q**-0.5
        turned = np.arctan2((1 + root) * np.sin(angle / 2), (1 - root) * np.cos(angle / 2))
        area = 2 * root * np.sin(angle) + (1 + root**2) * angle - 2 * (1 - root**2) * turned
        return np.clip(area / (2 * np.pi * root**2), 0.0, 1.0)

    def _slope_of_angle(self, angle: NDArray[np.float64]) -> NDArray[np.float64]:
        # sin^2(angle) / (eigenvalue / sigma2) is 0/0 at angle 0 when Q = 1; its limit there is 1.
        root = self.Q**-0.5
        half = np.sin(angle / 2) ** 2
        ratio = np.where(
            half > 0,
            4 * half * (1 - half) / np.where(half > 0, (1 - root) ** 2 + 4 * root * half, 1.0),
            1.0 if root == 1 else 0.0,
        )
        return 2 / np.pi * ratio
