"""Metrics of one spectrum as one, so that they share its decomposition."""

import jax.numpy as jnp

from ._spectral_metric import (
    NormMetric,
    SpectralMetric,
    is_scale_free,
    norm_metric,
    spectral_metric,
    top_fraction,
)


def joints_of(
    of_spectra: dict[str, SpectralMetric], tracking: str
) -> list[tuple[list[str], SpectralMetric]]:
    """The metrics that share a spectrum, by name, and each such set as one."""
    sets = [[*of_spectra]]
    if tracking == "tail":
        # Those of the norms need no tail, and the others no sum of the whole spectrum.
        of_norms = [name for name, m in of_spectra.items() if isinstance(m, NormMetric)]
        sets = [of_norms, [name for name in of_spectra if name not in of_norms]]
    return [(names, _joint([of_spectra[name] for name in names])) for names in sets if names]


def _joint(metrics: list[SpectralMetric]) -> SpectralMetric:
    """All metrics at once, along a last axis: one decomposition for all."""
    if all(isinstance(metric, NormMetric) for metric in metrics):
        of_norms = [metric.of_norms for metric in metrics if isinstance(metric, NormMetric)]
        return norm_metric(
            lambda squared_norm, top: jnp.stack([f(squared_norm, top) for f in of_norms], axis=-1)
        )
    functions = [metric.of_eigenvalues for metric in metrics]
    return spectral_metric(
        lambda spectrum: jnp.stack([f(spectrum) for f in functions], axis=-1),
        fraction=max((top_fraction(metric) for metric in metrics), default=1.0),
        scale_free=all(is_scale_free(metric) for metric in metrics),
    )
