"""The authors' released graphs, replayed by this package's own code.

google/compare_gan 49495fd was run for 12 steps (batch 64, 28x28x1, lr 1e-3, beta1 0.5, disc_iters
1) under TensorFlow's v1 interface with everything random fed from outside; `released_graphs.npz`
keeps the losses of every step and four images of the generator at the end. Initial values and
inputs are made here from the same NumPy seeds.
"""

import zlib
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from study.losses import load
from study.losses.base import Draws, GANLoss, Players
from study.training.optimizer import adam

Array = NDArray[np.float64]

RECORDINGS = Path(__file__).parent / "released_graphs.npz"
STEPS, BATCH, SIDE = 12, 64, 28

# loss: (own hyperparameters, batch normalisation in D)
CASES: dict[str, tuple[dict[str, float], bool]] = {
    "ns": ({}, True),
    "wgan": ({"clip": 0.05}, False),
    "wgan_gp": ({"lambda_gp": 10.0}, False),
    "dragan": ({"lambda_gp": 10.0}, False),
    "began": ({"lambda_k": 0.01, "gamma": 0.75}, False),
    "vae": ({}, True),
}

# Our module -> the released variable scope below generator/, discriminator/, encoder/, decoder/.
GENERATOR = {"fc1": "fc1", "bn1": "bn1", "fc2": "fc2", "bn2": "bn2", "deconv3": "dc3",
             "bn3": "bn3", "deconv4": "dc4"}  # fmt: skip
TRUNK = {n: n for n in ("conv1", "conv2", "bn2", "fc3", "bn3", "fc4")}
AUTOENCODER = {"conv1": "conv1", "conv2": "conv2", "fc3": "fc6", "fc4": "fc1",
               "deconv5": "deconv1", "deconv6": "deconv2"}  # fmt: skip
CURVES = {"d_real": "d_loss_real", "d_fake": "d_loss_fake", "nll": "reconstruction"}

# TensorFlow flattens (H, W, C), PyTorch (C, H, W): where each of our features lies in theirs.
FLAT = np.arange(7 * 7 * 128).reshape(7, 7, 128).transpose(2, 0, 1).ravel()


class Replay(NamedTuple):
    """Twelve steps: the curves that were recorded, by our names, and four images (4, 28, 28)."""

    curves: dict[str, Array]
    images: Array


@cache
def recorded(name: str) -> Replay:
    """What the released graph of a loss did."""
    with np.load(RECORDINGS) as file:
        keys = [key.split(".")[1] for key in file.files if key.startswith(f"{name}.")]
        series = {key: file[f"{name}.{key}"].astype(np.float64) for key in keys}
    if name == "began":  # recorded without its weight, -k of the step before
        series["d_fake"] = -np.append(0, series["k"][:-1]) * series["d_fake"]
    images = series.pop("images")
    return Replay({CURVES.get(key, key): values for key, values in series.items()}, images)


def replay(name: str, device: str = "cpu", dtype: torch.dtype = torch.float64) -> Replay:
    """The same twelve steps by our networks, loss, penalty, optimiser and step."""
    own, batch_norm = CASES[name]
    where: dict[str, Any] = {"device": device, "dtype": dtype}
    loss = load(name)(**own).to(**where)
    run = players(name, loss, batch_norm, where)
    x = tensor(images().astype(np.float32) / np.float32(255), where).view(13, BATCH, 1, SIDE, SIDE)
    steps = []
    for step in range(STEPS):
        z = z_of(name, 5000 if name == "vae" else 1000, step, where)
        z_g = z_of("", 2000, step, where) if loss.fresh_z else None
        steps.append(loss.step(run, x[step], z, z_g=z_g, draws=draws(name, step, where)))
    curves = {key: np.array([float(step[key]) for step in steps]) for key in recorded(name).curves}
    with torch.no_grad():
        generated = run.generator.eval()(z_of(name, 9000, 0, where)[:4])[:, 0]
    return Replay(curves, generated.double().cpu().numpy())


def deviation(found: Replay, wanted: Replay) -> tuple[float, float]:
    """The greatest relative deviation of a curve, and the greatest of a pixel in [0, 1].

    NaN where there is one: NumPy's max keeps it, Python's drops it.
    """
    relative = [0.0]
    for key, values in wanted.curves.items():
        difference = np.abs(found.curves[key] - values)
        with np.errstate(divide="ignore", invalid="ignore"):
            relative.append(float(np.where(difference == 0, 0, difference / np.abs(values)).max()))
    return float(np.max(relative)), float(np.abs(found.images - wanted.images).max())


# ---- initial values and inputs, from NumPy's seeds -----------------------------------------------


@cache
def images() -> NDArray[np.uint8]:
    """Random low-frequency fields, uint8 (13 batches x 64, 28, 28)."""
    t = (np.arange(SIDE) + 0.5) / SIDE
    basis = np.stack([np.cos(np.pi * f * t) for f in range(5)], 1)
    amplitude = np.random.RandomState(0).standard_normal((13 * BATCH, 5, 5))
    amplitude = amplitude / (1.0 + np.arange(5)[:, None] + np.arange(5)[None, :])
    field = np.einsum("if,nfg,jg->nij", basis, amplitude, basis)
    pixels: Array = np.clip(1 / (1 + np.exp(-2 * field)), 2 / 255, 253 / 255)
    return np.round(pixels * 255).astype(np.uint8)


def weight(name: str, shape: tuple[int, ...], truncated: bool) -> NDArray[np.float32]:
    """0.02 standard normal, seeded by the variable's name; convolutions redraw beyond 2 sigma."""
    rs = np.random.RandomState(zlib.crc32(name.encode()))
    x = rs.standard_normal(int(np.prod(shape)))
    while truncated and (bad := np.abs(x) > 2).any():
        x[bad] = rs.standard_normal(int(bad.sum()))
    return (0.02 * x).reshape(shape).astype(np.float32)


def set_weights(
    network: nn.Module,
    scope: str,
    names: dict[str, str],
    flat_in: tuple[str, ...] = (),
    flat_out: tuple[str, ...] = (),
) -> None:
    """Fill a network (biases 0, BN 1 and 0 as built) with the released graphs' initial weights."""
    for ours, theirs in names.items():
        layer: Any = getattr(network, ours)
        if not hasattr(layer, "weight") or layer.weight.ndim == 1:
            continue
        shape = tuple(layer.weight.shape)
        if layer.weight.ndim == 4:
            of_theirs = tuple(shape[i] for i in (2, 3, 1, 0))
            value = weight(f"{scope}{theirs}/w", of_theirs, isinstance(layer, nn.Conv2d))
            value = value.transpose(3, 2, 0, 1)
        else:
            value = weight(f"{scope}{theirs}/Matrix", shape[::-1], False)
            value = value[FLAT] if ours in flat_in else value
            value = (value[:, FLAT] if ours in flat_out else value).T
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(value)))
            layer.bias.zero_()


def players(name: str, loss: GANLoss, batch_norm: bool, where: dict[str, Any]) -> Players:
    """The loss's networks at full width with the recorded initial weights, and optimisers."""
    G = loss.generator((1, SIDE, SIDE), 1.0, 0.999)
    D = loss.discriminator((1, SIDE, SIDE), batch_norm, 1.0)
    g_scope, d_scope = ("decoder/de_", "encoder/en_") if name == "vae" else (
        "generator/g_", "discriminator/d_")  # fmt: skip
    set_weights(G, g_scope, GENERATOR, flat_out=("fc2",))
    if name == "began":
        set_weights(D, d_scope, AUTOENCODER, flat_in=("fc3",), flat_out=("fc4",))
    else:
        set_weights(D, d_scope, TRUNK, flat_in=("fc3",))
    G, D = G.to(**where), D.to(**where)
    if where["dtype"] == torch.float64:  # whose kernels take half as long so
        G.to(memory_format=torch.channels_last), D.to(memory_format=torch.channels_last)
    return Players(G, D, adam(G.parameters(), 1e-3, 0.5), adam(D.parameters(), 1e-3, 0.5))


def tensor(array: NDArray[Any], where: dict[str, Any]) -> Tensor:
    """An array on the device, in the arithmetic asked for."""
    return torch.from_numpy(array).to(**where)


def z_of(name: str, seed: int, step: int, where: dict[str, Any]) -> Tensor:
    """The z of a step, (64, 64): normal for the VAE, else uniform in (-1, 1)."""
    rs = np.random.RandomState(seed + step)
    z = rs.standard_normal((BATCH, 64)) if name == "vae" else rs.uniform(-1, 1, (BATCH, 64))
    return tensor(z.astype(np.float32), where)


def draws(name: str, step: int, where: dict[str, Any]) -> Draws | None:
    """What the penalty of a step draws."""
    alpha = np.random.RandomState(4000 + step).random_sample((BATCH, 1, 1, 1)).astype(np.float32)
    if name == "wgan_gp":
        return {"alpha": tensor(alpha, where)}
    if name == "dragan":
        noise = np.random.RandomState(2000 + step).random_sample((BATCH, SIDE, SIDE, 1))
        return {"alpha": tensor(alpha, where), "noise": tensor(noise, where).permute(0, 3, 1, 2)}
    return None
