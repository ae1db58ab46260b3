"""Two convolutions with seeded weights, for tests: 64 features that mean nothing."""

import torch
from torch import nn

from study.features.base import Extractor


def extractor(device: torch.device) -> Extractor:
    """The extractor, the same on every call."""
    relu = nn.ReLU(inplace=True)
    layers = [nn.Conv2d(3, 32, 4, stride=2), relu, nn.Conv2d(32, 64, 4, stride=2), relu]
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1, generator=generator)
    recipe = "two random convolutions, x / 255"
    return Extractor("random", 64, recipe, 250, 250 * 64**2, lambda x: x / 255, network, device)
