"""The digits of fifty steps by AVX2, pinned for each kind of processor that was at hand."""

import json
import os
import subprocess
import sys

import pytest

from study.settings.arithmetic import ENVIRONMENT, ROUNDING, cpu_flags

STEPS = 50
PINNED = 2  # of ROUNDING: where these digests change, it is raised
LOSSES = ("ns", "wgan_gp", "r3")
DIGESTS = {  # of both networks' weights after 50 steps at quarter width, first 16 hex digits
    "Intel(R) Xeon(R) Processor": ("380ecf68ed08f809", "ef54e8db66334bbf", "8ff2234d3d3c8717"),
    "AMD EPYC": ("ab3cc7d7fe17fbb7", "5c33a91ff57d8d43", "8e1bb8141a38ae78"),
}
SCRIPT = """
import hashlib, json, sys, torch
from study.losses import load
from study.settings.config import RunConfig
from study.training.players import build
from study.training.records import device_name
from study.training.networks import stream
from study.training.networks import draw_z

torch.set_num_threads(1)
torch.set_flush_denormal(True)
digests = {}
for name in json.loads(sys.argv[1]):
    defaults = dict(load(name).defaults)
    shared = {n: defaults.pop(n) for n in ("lr", "beta1", "disc_iters", "batch_norm")}
    config = RunConfig(
        sweep="s", loss=name, dataset="d", number=0, seed=0, d_steps=1, evaluate_every=1,
        width=0.25, bn_decay=0.99, features="random", num_images=2, own=defaults, **shared,
    )
    loss, players = build(config, (1, 28, 28), torch.device("cpu"))
    draws = stream(0, "test")
    for _ in range(50):
        x = torch.rand(64, 1, 28, 28, generator=draws)
        z, z_g = draw_z(64, loss.prior, draws), draw_z(64, loss.prior, draws)
        given = {"z_g": z_g} if loss.fresh_z else {}
        loss.step(players, x, z, draws=loss.draws(x, draws), **given)
    sha256 = hashlib.sha256()
    for network in (players.generator, players.discriminator):
        for weight in network.state_dict().values():
            sha256.update(weight.numpy().tobytes())
    digests[name] = sha256.hexdigest()[:16]
capability = torch.backends.cpu.get_cpu_capability()
print(json.dumps({"digests": digests, "capability": capability, "processor": device_name("cpu")}))
"""


@pytest.mark.skipif("avx2" not in cpu_flags(), reason="this processor has no AVX2")
def test_fifty_steps_come_to_the_same_digits() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(LOSSES)],
        env=os.environ | ENVIRONMENT["avx2"],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(answer.stdout)
    assert ROUNDING == PINNED
    assert found["capability"] == "AVX2"
    if found["processor"] not in DIGESTS:
        pytest.skip(f"no digits are known of {found['processor']}: {found['digests']}")
    assert found["digests"] == dict(zip(LOSSES, DIGESTS[found["processor"]], strict=True))
