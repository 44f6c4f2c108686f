"""The explicit penalties of a run, and the norms that its control is held to."""

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

import fitting
import spectral_reg as sr
from examples.training.config import Config
from examples.training.networks import LAYERS

# A tail of a given exponent, by the loss that the exact fit confirms.
POWER_LAWS = {f"power_law_{alpha:g}": alpha for alpha in (2.5, 3.0, 4.0)}
# The same over the largest eigenvalues alone: exponent and share.
TOPS = {"power_law_3_top_10": (3.0, 0.1)}
SPECTRAL = ("spectral_norm", "log_stable_rank", *POWER_LAWS, "alpha_hat", "stable_rank_hinge")
PENALTIES = ("l2", "dropout", *SPECTRAL)
KNOWN = (*PENALTIES, *TOPS, "nuclear_norm", "matrix_entropy")

# Of the stable rank of noise of the same shape. The papers' FC1 comes down to it at b = 8.
HINGE_SHARE = 0.5


def stable_rank_of_noise(shape: tuple[int, int]) -> float:
    """Gives the stable rank of a large random matrix, its short side over (1 + Q^-1/2)^2."""
    edge = fitting.MarchenkoPastur(max(shape) / min(shape), 1.0).edges[1]
    return min(shape) / edge


def _metric(name: str, shape: tuple[int, int]) -> Callable[..., jax.Array]:
    match name:
        case _ if name in POWER_LAWS:
            return sr.power_law_distance(POWER_LAWS[name])
        case _ if name in TOPS:
            alpha, fraction = TOPS[name]
            return sr.power_law_distance(alpha, fraction=fraction)
        case "stable_rank_hinge":
            bound = math.log(HINGE_SHARE * stable_rank_of_noise(shape))
            return sr.hinge(sr.log_stable_rank, above=bound)
        case _:
            return getattr(sr, name)


def make_optimizer(config: Config) -> optax.GradientTransformation:
    """Makes the optimizer of a run, the penalty's gradient added to the loss's if there is one.

    L2 is Keras' `strength * sum(w^2)`: its gradient is `2 * strength * w`.

    Raises:
        ValueError: The penalty or the optimizer is unknown.
    """
    rate: float | optax.Schedule = config.learning_rate
    if config.decay != 1:
        rate = optax.exponential_decay(rate, config.num_steps, config.decay, staircase=True)
    optimizers = {
        "sgd": functools.partial(optax.sgd, momentum=config.momentum),
        "adadelta": functools.partial(optax.adadelta, rho=0.95, eps=1e-7),
        "adadelta_1e-8": functools.partial(optax.adadelta, rho=0.95, eps=1e-8),
    }
    if config.optimizer not in optimizers:
        raise ValueError(
            f"optimizer is {config.optimizer!r}; expected one of {', '.join(optimizers)}"
        )
    optimizer = optimizers[config.optimizer](rate)
    if config.penalty not in ("", *KNOWN):
        raise ValueError(
            f"penalty is {config.penalty!r}; expected one of {', '.join(KNOWN)}, or '' for none"
        )
    if config.penalty in ("", "dropout") or config.norm_matched:
        return optimizer
    layers = LAYERS[config.network]
    if config.penalty == "l2":
        mask = sr.by_path(*(f"{layer}/kernel" for layer in layers))
        return optax.chain(optax.add_decayed_weights(2 * config.strength, mask), optimizer)
    # One transformation a layer: the hinge's bound depends on the layer's shape.
    penalties = [
        sr.add_spectral_penalty(
            _metric(config.penalty, shape),
            config.strength,
            mask=sr.by_path(f"{layer}/kernel"),
            tracking="warm",
        )
        for layer, shape in layers.items()
    ]
    return optax.chain(*penalties, optimizer)


def _kernels(params: dict) -> list[str]:
    return sorted(f"{layer}/kernel" for layer in params if "kernel" in params[layer])


def norms(params: dict) -> jax.Array:
    """Gives the Frobenius norms of all weight matrices and convolutions, in the layers' order."""
    found = sr.layer_norms(params, mask=sr.by_path(*_kernels(params)))
    return jnp.stack([found[path] for path in _kernels(params)])


def at_norms(updates: dict, params: dict, target: jax.Array | np.ndarray) -> dict:
    """Gives updates after which every weight matrix and convolution has a given Frobenius norm.

    A layer that is zero stays so; a norm that is not finite, of a run that diverged, is passed on.
    """
    names = _kernels(params)
    wanted = {name: norm[None] for name, norm in zip(names, jnp.asarray(target), strict=True)}
    hold = sr.hold_norms(norms=wanted, mask=sr.by_path(*names))
    return hold.update(updates, hold.init(params), params)[0]


# What is tried of each penalty, the likeliest first: rates of dropout, and for the others multiples
# of `unit_of_strength`. Distances of alpha to its target enter squared, so less of it does more.
MULTIPLES = {
    "l2": (1.0, 0.1, 10.0, 100.0),
    "dropout": (0.5, 0.2, 0.35, 0.7),
    "spectral_norm": (1.0, 0.1, 10.0, 100.0),
    "log_stable_rank": (1.0, 0.1, 10.0, 100.0),
    **dict.fromkeys(POWER_LAWS, (1000.0, 100.0, 10.0, 10000.0)),
    "alpha_hat": (1.0, 0.1, 10.0, 100.0),
    "stable_rank_hinge": (1.0, 0.1, 10.0, 100.0),
}


def unit_of_strength(config: Config) -> float:
    """Gives the strength that would move a singular value of 1 by about 1 over a run.

    It is 1 over the sum of the run's learning rates, momentum counted in, and so lets a strength
    that was found in a short run be used in a long one. That leaves out what the loss does.
    """
    epochs = np.arange(config.epochs)
    rates = config.learning_rate * config.decay**epochs
    return float((1 - config.momentum) / (config.num_steps * rates.sum()))


def penalized(config: Config, penalty: str, multiple: float) -> Config:
    """Gives the run with a penalty, its strength rounded to two digits."""
    unit = 1.0 if penalty == "dropout" else unit_of_strength(config)
    strength = float(f"{multiple * unit:.2g}")
    return dataclasses.replace(config, penalty=penalty, strength=strength)
