"""What a run begins with: its loss, its networks with their initial weights, their optimisers."""

import torch

from study.losses import load
from study.losses.base import GANLoss, Players
from study.settings.config import RunConfig
from study.training.networks import (
    ImageShape,
    initialise,
    normalise_spectrally,
    place,
    stream,
)
from study.training.optimizer import adam


def build(config: RunConfig, shape: ImageShape, device: torch.device) -> tuple[GANLoss, Players]:
    """The run's loss, networks with their initial weights, and optimisers."""
    loss = load(config.loss)(**config.own)
    generator = loss.generator(shape, config.width, config.bn_decay)
    discriminator = loss.discriminator(shape, config.batch_norm, config.width)
    for name, network in (("generator", generator), ("discriminator", discriminator)):
        initialise(network, stream(config.seed, name))
    if config.normalisation == "spectral":
        normalise_spectrally(discriminator, stream(config.seed, "spectral"))
    for network in (generator, discriminator):
        place(network, device, config.width)
    g_lr = config.lr * loss.g_lr_ratio
    return loss.to(device), Players(
        generator,
        discriminator,
        adam(generator.parameters(), g_lr, config.beta1, config.cuda_graph),
        adam(discriminator.parameters(), config.lr, config.beta1, config.cuda_graph),
    )
