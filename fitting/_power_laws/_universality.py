"""The universality class of a heavy-tailed layer, with the rule that gave it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class UniversalityClass:
    """A heavy-tailed universality class.

    Attributes:
        name: "very heavy-tailed", "fat-tailed" or "weakly heavy-tailed".
        mu: Tail exponent of the matrix elements, ``P(w) ~ |w|^-(1 + mu)``, by ``rule``.
        rule: The relation of mu and alpha that was used.
        caveat: What the rule leaves out.
    """

    name: str
    mu: float
    rule: str
    caveat: str


def universality_class(alpha: float) -> UniversalityClass:
    r"""Class and element exponent mu of a layer whose eigenvalue density falls as alpha.

    .. math:: \mu = 2(\alpha - 1) \text{ for } \alpha < 2, \qquad
        \mu = 2 \text{ for } 2 \le \alpha \le 3, \qquad \mu = \alpha - 1 \text{ for } \alpha > 3

    The class is read from alpha itself: very heavy-tailed below 2, fat-tailed from 2 to 6, weakly
    heavy-tailed above.

    Args:
        alpha: Exponent of the eigenvalue density, above 1; ``PowerLawFit.alpha`` of a valid fit.

    Returns:
        ``UniversalityClass``. Only the rule below 2 is a theorem for independent elements; each
        answer says so in its ``caveat``.

    Raises:
        ValueError: If alpha is not above 1 and finite.

    Example:
        >>> import fitting
        >>> layer = fitting.universality_class(1.75)
        >>> layer.name, layer.mu, layer.rule
        ('very heavy-tailed', 1.5, 'mu = 2 (alpha - 1)')

    References:
        C. Martin and M. Mahoney, 2021, Table 1, and the rule of their notebooks; A. Auffinger,
        G. Ben Arous and S. Péché, 2009 (the theorem).
    """
    if not (math.isfinite(alpha) and alpha > 1):
        raise ValueError(
            f"alpha is {alpha}; expected a finite number above 1; a fit that is not valid has no "
            "universality class"
        )
    theorem = f"for independent elements alpha = 1 + mu / 2, so mu = {2 * (alpha - 1):.3g}"
    if alpha < 2:
        return UniversalityClass(
            name="very heavy-tailed",
            mu=2 * (alpha - 1),
            rule="mu = 2 (alpha - 1)",
            caveat="exact for independent elements in the limit of large matrices; trained weights "
            "are not independent",
        )
    if alpha <= 3:
        return UniversalityClass(
            name="fat-tailed",
            mu=2.0,
            rule="mu = 2 for alpha in [2, 3]",
            caveat=f"a convention: {theorem}, and only the largest eigenvalues follow it, the bulk "
            "being Marchenko-Pastur when mu > 2",
        )
    return UniversalityClass(
        name="fat-tailed" if alpha <= 6 else "weakly heavy-tailed",
        mu=alpha - 1,
        rule="mu = alpha - 1",
        caveat="an empirical rule for finite matrices: independent elements with mu > 4 have no "
        "power-law tail at all, and a fitted alpha above 3 depends on the shape of the matrix",
    )
