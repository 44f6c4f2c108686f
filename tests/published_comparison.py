"""The published models compared, for tests of the statistics and of what is made of them."""

import fitting


def published(series):
    metrics = series.drop(columns="top1")
    return fitting.compare_values(metrics, quality=series["top1"], controls=["log_depth"])
