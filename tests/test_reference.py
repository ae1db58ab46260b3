"""The study's own code, replayed in float64 against numbers recorded from the authors' graphs.

google/compare_gan 49495fd was run for 12 steps (batch 64, 28x28x1, lr 1e-3, beta1 0.5, disc_iters
1) under TensorFlow's v1 interface with everything random fed from outside; `released_graphs.npz`
keeps the losses of every step and four images of the generator at the end. Initial values and
inputs are made here from the same NumPy seeds.
"""

import hashlib
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from study.losses import load
from study.losses.base import Players
from study.training.optimizer import adam

RECORDED = np.load(Path(__file__).parent / "reference" / "released_graphs.npz")
STEPS, BATCH, SIDE = 12, 64, 28
IMAGES_SHA256 = "382b350dc2ef29b159b1dd86a7fa3e23027962914da1c158e6666288eb0cb42e"

# loss: (own hyperparameters, batch normalisation in D)
CASES = {
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

# TensorFlow flattens (H, W, C), PyTorch (C, H, W): where each of our features lies in theirs.
FLAT = np.arange(7 * 7 * 128).reshape(7, 7, 128).transpose(2, 0, 1).ravel()


def images():
    """Random low-frequency fields, uint8 (13 batches x 64, 28, 28)."""
    t = (np.arange(SIDE) + 0.5) / SIDE
    basis = np.stack([np.cos(np.pi * f * t) for f in range(5)], 1)
    amplitude = np.random.RandomState(0).standard_normal((13 * BATCH, 5, 5))
    amplitude = amplitude / (1.0 + np.arange(5)[:, None] + np.arange(5)[None, :])
    field = np.einsum("if,nfg,jg->nij", basis, amplitude, basis)
    pixels = np.clip(1 / (1 + np.exp(-2 * field)), 2 / 255, 253 / 255)
    return np.round(pixels * 255).astype(np.uint8)


def weight(name, shape, truncated):
    """0.02 standard normal, seeded by the variable's name; convolutions redraw beyond 2 sigma."""
    rs = np.random.RandomState(zlib.crc32(name.encode()))
    x = rs.standard_normal(int(np.prod(shape)))
    while truncated and (bad := np.abs(x) > 2).any():
        x[bad] = rs.standard_normal(int(bad.sum()))
    return (0.02 * x).reshape(shape).astype(np.float32)


def set_weights(network, scope, names, flat_in=(), flat_out=()):
    """Fill a network (biases 0, BN 1 and 0 as built) with the released graphs' initial weights."""
    for ours, theirs in names.items():
        layer = getattr(network, ours)
        if not hasattr(layer, "weight") or layer.weight.ndim == 1:
            continue
        shape = tuple(layer.weight.shape)
        if layer.weight.ndim == 4:
            value = weight(f"{scope}{theirs}/w", tuple(shape[i] for i in (2, 3, 1, 0)),
                           isinstance(layer, torch.nn.Conv2d))  # fmt: skip
            value = value.transpose(3, 2, 0, 1)
        else:
            value = weight(f"{scope}{theirs}/Matrix", shape[::-1], False)
            value = value[FLAT] if ours in flat_in else value
            value = (value[:, FLAT] if ours in flat_out else value).T
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(np.ascontiguousarray(value)))
            layer.bias.zero_()


def players(name, loss, batch_norm):
    G = loss.generator((1, SIDE, SIDE), 1.0, 0.999)
    D = loss.discriminator((1, SIDE, SIDE), batch_norm, 1.0)
    g_scope, d_scope = ("decoder/de_", "encoder/en_") if name == "vae" else (
        "generator/g_", "discriminator/d_")  # fmt: skip
    set_weights(G, g_scope, GENERATOR, flat_out=("fc2",))
    if name == "began":
        set_weights(D, d_scope, AUTOENCODER, flat_in=("fc3",), flat_out=("fc4",))
    else:
        set_weights(D, d_scope, TRUNK, flat_in=("fc3",))
    G, D = G.double(), D.double()
    return Players(G, D, adam(G.parameters(), 1e-3, 0.5), adam(D.parameters(), 1e-3, 0.5))


def tensor(array):
    return torch.from_numpy(np.asarray(array)).double()


def uniform_z(seed):
    return tensor(np.random.RandomState(seed).uniform(-1, 1, (BATCH, 64)).astype(np.float32))


def normal_z(seed):
    return tensor(np.random.RandomState(seed).standard_normal((BATCH, 64)).astype(np.float32))


def draws(name, step):
    alpha = np.random.RandomState(4000 + step).random_sample((BATCH, 1, 1, 1)).astype(np.float32)
    if name == "wgan_gp":
        return {"alpha": tensor(alpha)}
    if name == "dragan":
        noise = np.random.RandomState(2000 + step).random_sample((BATCH, SIDE, SIDE, 1))
        return {"alpha": tensor(alpha), "noise": tensor(noise).permute(0, 3, 1, 2)}
    return None


@pytest.fixture(scope="module")
def batches():
    pixels = images()
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == IMAGES_SHA256
    return tensor(pixels.astype(np.float32) / np.float32(255)).view(13, BATCH, 1, SIDE, SIDE)


@pytest.mark.parametrize("name", CASES)
def test_twelve_steps_equal_the_released_graph(name, batches):
    own, batch_norm = CASES[name]
    loss = load(name)(**own).double()
    run = players(name, loss, batch_norm)
    series = []
    for step in range(STEPS):
        z = normal_z(5000 + step) if name == "vae" else uniform_z(1000 + step)
        z_g = uniform_z(2000 + step) if loss.fresh_z else None
        curves = loss.step(run, batches[step], z, z_g=z_g, draws=draws(name, step))
        series.append({key: value.item() for key, value in curves.items()})

    ours = {"d_real": "d_loss_real", "d_fake": "d_loss_fake", "nll": "reconstruction"}
    keys = [key.split(".")[1] for key in RECORDED.files if key.startswith(f"{name}.")]
    recorded = {key: RECORDED[f"{name}.{key}"] for key in keys}
    if name == "began":  # recorded without its weight, -k of the step before
        recorded["d_fake"] = -np.append(0, recorded["k"][:-1]) * recorded["d_fake"]
    for key in set(keys) - {"images"}:
        values = [step[ours.get(key, key)] for step in series]
        np.testing.assert_allclose(values, recorded[key], rtol=1e-6, err_msg=key)

    z = normal_z(9000) if name == "vae" else uniform_z(9000)
    with torch.no_grad():
        generated = run.generator.eval()(z[:4])[:, 0]
    np.testing.assert_allclose(generated, recorded["images"], atol=1e-5)
