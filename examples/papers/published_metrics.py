"""Metrics and statistics that the papers' authors published for the VGG and ResNet series.

Martin, Peng and Mahoney, Nature Communications 12:4122, 2021: WeightWatcher 0.2.7, log10, means
over all feature maps of at least 50; top-1 of torchvision.
"""

import numpy as np
import pandas as pd

NORMS = (
    "mean_log_frobenius_norm",
    "mean_log_spectral_norm",
    "mean_alpha_hat",
    "mean_log_alpha_norm",
)

VGG = pd.DataFrame(
    {
        # vgg13_bn and vgg16 tie when rounded to two digits.
        "top1": [69.02, 70.37, 69.93, 71.586, 71.592, 73.36, 72.38, 74.22],
        "log_depth": np.log([11, 11, 13, 13, 16, 16, 19, 19]),
        "mean_alpha": [2.572, 2.747, 2.690, 2.953, 2.892, 3.099, 2.965, 3.080],
        "mean_alpha_hat": [3.419, 3.291, 3.320, 3.204, 3.238, 3.046, 3.050, 2.774],
        "mean_log_frobenius_norm": [1.252, 1.195, 1.174, 1.103, 1.152, 1.084, 1.135, 1.053],
        "mean_log_spectral_norm": [1.378, 1.229, 1.238, 1.106, 1.134, 0.996, 1.051, 0.902],
        # Both vgg11_bn and vgg13 are printed as 3.738; this order is that of the published tau.
        "mean_log_alpha_norm": [3.878, 3.7380, 3.7381, 3.575, 3.637, 3.434, 3.466, 3.206],
        "mean_log_stable_rank_ratio": [1.94, 2.07, 1.98, 2.09, 2.12, 2.30, 2.26, 2.48],
        "mean_stable_rank": [17.9, 19.2, 16.2, 17.0, 18.3, 19.8, 20.0, 20.9],
        "mean_mp_soft_rank": [0.149, 0.191, 0.224, 0.323, 0.271, 0.391, 0.335, 0.518],
    },
    index=["vgg11", "vgg11_bn", "vgg13", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19", "vgg19_bn"],
)
RESNET = pd.DataFrame(
    {
        "top1": [69.76, 73.31, 76.13, 77.37, 78.31],
        "log_depth": np.log([18, 34, 50, 101, 152]),
        "mean_alpha": [3.353, 3.329, 3.398, 2.966, 2.725],
        "mean_alpha_hat": [2.720, 1.746, 1.408, 0.666, 0.431],
        "mean_log_frobenius_norm": [1.004, 0.896, 0.839, 0.706, 0.649],
        "mean_log_spectral_norm": [0.990, 0.660, 0.643, 0.360, 0.251],
        "mean_log_alpha_norm": [3.108, 2.232, 1.918, 1.186, 0.948],
        "mean_log_stable_rank_ratio": [2.54, 4.30, -8.49, 3.98, 4.93],
        "mean_stable_rank": [18.9, 22.6, 22.6, 19.8, 17.4],
        "mean_mp_soft_rank": [0.588, 1.140, 1.00, 1.68, 1.92],
    },
    index=["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"],
)
SERIES = {"VGG": VGG, "ResNet": RESNET}

# RMSE, R^2 and Kendall's tau against top-1 as printed, in the order of NORMS.
PRINTED = {
    "VGG": ((0.56, 0.88, -0.79), (0.23, 0.98, -0.93), (0.48, 0.92, -0.93), (0.34, 0.96, -0.93)),
    "ResNet": ((0.9, 0.92, -1.0), (0.97, 0.9, -1.0), (0.61, 0.96, -1.0), (0.66, 0.9, -1.0)),
}
