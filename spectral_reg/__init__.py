"""Differentiable spectral regularizers for JAX."""

from ._alpha import alpha as alpha
from ._alpha import alpha_hat as alpha_hat
from ._alpha import hill as hill
from ._alpha import smooth_hill as smooth_hill
from ._axes import MatrixAxes as MatrixAxes
from ._axes_argument import Stacked as Stacked
from ._by_layer_factors import LayerFactorsState as LayerFactorsState
from ._cap_spectral_norm import CappedNormsState as CappedNormsState
from ._cap_spectral_norm import cap_spectral_norm as cap_spectral_norm
from ._conv_operator import ConvOperator as ConvOperator
from ._conv_operator import conv_operator as conv_operator
from ._csn import frozen_csn as frozen_csn
from ._csn import soft_csn as soft_csn
from ._eigenvalues import eigenvalues as eigenvalues
from ._from_torch import params_from_torch as params_from_torch
from ._hold_norms import HeldNormsState as HeldNormsState
from ._hold_norms import hold_norms as hold_norms
from ._hold_norms import layer_norms as layer_norms
from ._layer_factors import linear_ratio as linear_ratio
from ._layer_scale import add_decayed_weights_by_spectra as add_decayed_weights_by_spectra
from ._layer_scale import scale_by_layer_spectra as scale_by_layer_spectra
from ._layers import layer_matrices as layer_matrices
from ._layers import layer_spectra as layer_spectra
from ._leaf_names import is_layer_matrix as is_layer_matrix
from ._metrics import lambda_max as lambda_max
from ._metrics import log_frobenius_norm as log_frobenius_norm
from ._metrics import log_spectral_norm as log_spectral_norm
from ._metrics import log_stable_rank as log_stable_rank
from ._metrics import log_stable_rank_ratio as log_stable_rank_ratio
from ._metrics import matrix_entropy as matrix_entropy
from ._metrics import spectral_norm as spectral_norm
from ._metrics import stable_rank as stable_rank
from ._optax_state import SpectralPenaltyState as SpectralPenaltyState
from ._penalty import hinge as hinge
from ._penalty import spectral_penalty as spectral_penalty
from ._penalty import target as target
from ._power_law_distance import power_law_distance as power_law_distance
from ._power_law_distance import rank_regression as rank_regression
from ._products import products_only as products_only
from ._reading import LayerReading as LayerReading
from ._reading import explain_layers as explain_layers
from ._sampled import sampled as sampled
from ._spectral_metric import NormMetric as NormMetric
from ._spectral_metric import SpectralMetric as SpectralMetric
from ._spectral_metric import norm_metric as norm_metric
from ._spectral_metric import spectral_metric as spectral_metric
from ._spectral_values import spectral_values as spectral_values
from ._state_bytes import state_bytes as state_bytes
from ._sums import nuclear_norm as nuclear_norm
from ._sums import orthogonality as orthogonality
from ._transformation import add_spectral_penalty as add_spectral_penalty
from ._trees import by_path as by_path
from ._trees import path_name as path_name
from ._watch import SpectralWatchState as SpectralWatchState
from ._watch import watch_spectra as watch_spectra

__all__ = [
    "CappedNormsState",
    "ConvOperator",
    "HeldNormsState",
    "LayerFactorsState",
    "LayerReading",
    "MatrixAxes",
    "NormMetric",
    "SpectralMetric",
    "SpectralPenaltyState",
    "SpectralWatchState",
    "Stacked",
    "add_decayed_weights_by_spectra",
    "add_spectral_penalty",
    "alpha",
    "alpha_hat",
    "by_path",
    "cap_spectral_norm",
    "conv_operator",
    "eigenvalues",
    "explain_layers",
    "frozen_csn",
    "hill",
    "hinge",
    "hold_norms",
    "is_layer_matrix",
    "lambda_max",
    "layer_matrices",
    "layer_norms",
    "layer_spectra",
    "linear_ratio",
    "log_frobenius_norm",
    "log_spectral_norm",
    "log_stable_rank",
    "log_stable_rank_ratio",
    "matrix_entropy",
    "norm_metric",
    "nuclear_norm",
    "orthogonality",
    "params_from_torch",
    "path_name",
    "power_law_distance",
    "products_only",
    "rank_regression",
    "sampled",
    "scale_by_layer_spectra",
    "smooth_hill",
    "soft_csn",
    "spectral_metric",
    "spectral_norm",
    "spectral_penalty",
    "spectral_values",
    "stable_rank",
    "state_bytes",
    "target",
    "watch_spectra",
]
