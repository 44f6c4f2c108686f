"""What decides the outcome of one training run."""

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from typing import Any


def digest(value: Any) -> str:
    """Eight letters that tell apart what JSON can hold, for names of files."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Config:
    """One training run. Two runs of equal configurations give equal numbers on one backend.

    Attributes:
        data: Name of the data set.
        train_size: How many training images, from the first.
        test_size: How many test images, from the first.
        batch_size: Images a step.
        epochs: Times that every training image is seen.
        seed: Decides the weights, the order of the images, the dropout and the random labels.
        network: Name of the network.
        loss: ``"cross_entropy"``, or ``"mse"`` on the softmax.
        optimizer: ``"sgd"``, ``"adadelta"``, or ``"adadelta_1e-8"`` with the epsilon of Keras 2.0.
        learning_rate: In the first epoch.
        decay: What the learning rate is multiplied by after each epoch.
        momentum: Of SGD.
        init: Initial weights of MiniAlexNet.
        penalty: Name in ``training.penalties``; none if empty.
        strength: Weight of the penalty, or the rate of dropout.
        norm_matched: Whether this is the control of the run that is the same but for this field:
            without its penalty, but with its weights' Frobenius norms after every step.
        dense_norm: Whether MiniAlexNet has batch norm on FC1 and FC2 too.
        random_labels: Share of the training images whose label is drawn at random.
        validation_size: If not 0, that many images, which follow the training images, stand in the
            place of the test set, which is not looked at.
    """

    data: str
    train_size: int
    test_size: int
    batch_size: int
    epochs: int
    seed: int = 0
    loss: str = "cross_entropy"
    learning_rate: float = 0.01
    momentum: float = 0.9
    init: str = "glorot"
    penalty: str = ""
    strength: float = 0.0
    network: str = "mini_alexnet"
    optimizer: str = "sgd"
    decay: float = 1.0
    norm_matched: bool = False
    dense_norm: bool = False
    random_labels: float = 0.0
    validation_size: int = 0

    @property
    def num_steps(self) -> int:
        """Steps an epoch; what is left over of the images is left out."""
        return self.train_size // self.batch_size

    @property
    def num_images(self) -> int:
        """Images that the whole run trains on."""
        return self.num_steps * self.batch_size * self.epochs

    @property
    def original(self) -> "Config":
        """The run whose norms a norm-matched control takes."""
        return dataclasses.replace(self, norm_matched=False)

    @property
    def label(self) -> str:
        """A short name for people; not unique."""
        parts = [f"b{self.batch_size}"]
        if self.penalty:
            parts.append(f"{self.penalty}-{self.strength:g}")
        if self.norm_matched:
            parts.append("control")
        if self.random_labels:
            parts.append(f"random{self.random_labels:g}")
        return "-".join([*parts, f"seed{self.seed}"])
