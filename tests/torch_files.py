"""PyTorch files, written for tests of what reads them."""


def weights(**tensors):
    return {name.replace("__", "."): tensor for name, tensor in tensors.items()}


def save(path, checkpoint, **options):
    import torch

    torch.save(checkpoint, path, **options)
    return path
