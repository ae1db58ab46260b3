"""Losses: closed forms by hand, limits, and the contract that every file in the folder keeps."""

import math

import pytest
import torch
from torch import nn

from study.errors import StudyError
from study.losses import load, names
from study.losses.base import Players
from study.settings.config import RunConfig
from study.training.networks import Z_DIM, Generator, draw_z
from study.training.optimizer import adam
from study.training.penalties import gradient_penalty

SHARED = {"lr", "beta1", "disc_iters", "batch_norm"}
ADVERSARIAL = [name for name in names() if name != "vae"]

REAL = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64)  # sigmoid 1/2, 3/4
FAKE = torch.tensor([0.0, -math.log(3.0)], dtype=torch.float64)  # sigmoid 1/2, 1/4


def default(name):
    cls = load(name)
    return cls(**{k: v for k, v in cls.defaults.items() if k not in SHARED})


LOG2, LOG43, LOG4 = math.log(2), math.log(4 / 3), math.log(4)
CLOSED_FORMS = {  # name: (d_loss, g_loss) for REAL and FAKE
    "mm": (LOG2 + LOG43, -(LOG2 + LOG43) / 2),
    "ns": (LOG2 + LOG43, (LOG2 + LOG4) / 2),
    "dragan": (LOG2 + LOG43, (LOG2 + LOG4) / 2),
    "ls": (0.5 * (1 / 4 + 1 / 16), 0.5 * (1 / 4 + 9 / 16) / 2),
    "wgan": (-math.log(3), math.log(3) / 2),
    "wgan_gp": (-math.log(3), math.log(3) / 2),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name):
    loss = default(name)
    d_loss, g_loss = CLOSED_FORMS[name]
    assert loss.d_loss(REAL, FAKE).item() == pytest.approx(d_loss, rel=1e-12)
    assert loss.g_loss(FAKE).item() == pytest.approx(g_loss, rel=1e-12)


def test_mm_generator_minimises_the_negative_of_its_part_of_d():
    loss = load("mm")()
    assert loss.g_loss(FAKE) == -loss.d_loss_fake(FAKE)


def test_mm_saturates_where_ns_does_not():
    sure = torch.tensor([-20.0], dtype=torch.float64, requires_grad=True)
    (mm,) = torch.autograd.grad(load("mm")().g_loss(sure), sure)
    (ns,) = torch.autograd.grad(load("ns")().g_loss(sure), sure)
    assert mm.item() == pytest.approx(-math.exp(-20), rel=1e-6)
    assert ns.item() == pytest.approx(-1, rel=1e-6)


def test_began_losses_and_unclipped_k():
    loss = load("began")(lambda_k=0.5, gamma=0.5)
    real, fake = torch.tensor([0.2, 0.4]), torch.tensor([0.5, 0.7])
    assert loss.d_loss(real, fake).item() == pytest.approx(0.3)  # k starts at 0
    loss.after_step(real, fake)
    assert loss.k.item() == pytest.approx(0.5 * (0.5 * 0.3 - 0.6))  # -0.225: below 0
    assert loss.d_loss(real, fake).item() == pytest.approx(0.3 + 0.225 * 0.6)
    assert loss.g_loss(fake).item() == pytest.approx(0.6)
    assert loss.curves(real, fake)["M"].item() == pytest.approx(0.3 + abs(0.15 - 0.6))
    assert "k" in loss.state_dict()


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("logit", [-1000.0, 1000.0])
def test_values_and_gradients_are_finite_at_extreme_logits(name, logit):
    loss = default(name)
    real = torch.full((4,), logit, requires_grad=True)
    fake = torch.full((4,), -logit, requires_grad=True)
    total = loss.d_loss(real, fake) + loss.g_loss(fake)
    total.backward()
    for value in (total, real.grad, fake.grad):
        assert value.isfinite().all()


def linear_d(weight):
    """D(x) = <w, x>: its gradient is w everywhere."""

    class D(nn.Module):
        def forward(self, x):
            return (x * weight).sum((1, 2, 3))

    return D()


def test_gradient_penalty_of_a_linear_d_is_exact():
    weight = torch.zeros(1, 2, 2, dtype=torch.float64)
    weight[0, 0, 0], weight[0, 1, 1] = 3.0, 4.0  # norm 5 over all pixels; 3 and 4 along any axis
    x = torch.rand(6, 1, 2, 2, dtype=torch.float64)
    expected = (math.sqrt(25 + 1e-4) - 1) ** 2
    assert gradient_penalty(linear_d(weight), x).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_norms_are_per_image_not_of_the_batch():
    def square(x):  # gradient 2x: every image has a norm of its own
        return x.square().sum((1, 2, 3))

    x = torch.zeros(2, 1, 1, 2, dtype=torch.float64)
    x[0, 0, 0], x[1, 0, 0] = torch.tensor([0.5, 0.0]), torch.tensor([0.0, 2.0])
    norms = [math.sqrt(1e-4 + 1), math.sqrt(1e-4 + 16)]
    expected = sum((norm - 1) ** 2 for norm in norms) / 2
    assert gradient_penalty(square, x).item() == pytest.approx(expected, rel=1e-12)


def test_wgan_gp_point_lies_between_each_pair():
    loss = load("wgan_gp")(lambda_gp=7.0)
    seen = []

    class D(nn.Module):
        def forward(self, x):
            seen.append(x.detach().clone())
            return x.sum((1, 2, 3))

    real, fake = torch.zeros(2, 1, 1, 1).double(), torch.ones(2, 1, 1, 1).double()
    alpha = torch.tensor([0.25, 0.75], dtype=torch.float64).view(2, 1, 1, 1)
    value = loss.penalty(D(), real, fake, {"alpha": alpha})
    assert seen[0].flatten().tolist() == [0.25, 0.75]
    assert value.item() == pytest.approx(7 * (math.sqrt(1 + 1e-4) - 1) ** 2, rel=1e-3)


def test_dragan_penalty_is_on_the_sigmoid_around_real_images():
    loss = load("dragan")(lambda_gp=2.0)
    x = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64).view(2, 1, 1, 2)
    alpha = torch.tensor([0.5, 1.0], dtype=torch.float64).view(2, 1, 1, 1)
    noise = torch.tensor([[0.2, 0.4], [0.6, 0.8]], dtype=torch.float64).view(2, 1, 1, 2)
    weight = torch.tensor([1.0, -2.0], dtype=torch.float64).view(1, 1, 2)
    value = loss.penalty(linear_d(weight), x, torch.rand_like(x), {"alpha": alpha, "noise": noise})
    # By hand: std of (0, 1, 1, 0) is 1/2, so x moves by alpha * noise / 4.
    expected = 0.0
    for image, a, n in (([0, 1], 0.5, [0.2, 0.4]), ([1, 0], 1.0, [0.6, 0.8])):
        p = [image[i] + a * 0.25 * n[i] for i in (0, 1)]
        s = 1 / (1 + math.exp(-(p[0] - 2 * p[1])))
        norm = math.sqrt(1e-4 + (s * (1 - s)) ** 2 * 5)
        expected += 2.0 * (norm - 1) ** 2 / 2
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_wgan_clips_every_parameter_of_d():
    loss = load("wgan")(clip=0.01)
    D = loss.discriminator((1, 28, 28), True, 0.125)
    nn.init.constant_(D.bn2.weight, 1.0)
    nn.init.constant_(D.fc4.bias, -3.0)
    loss.after_d_step(D)
    assert max(p.abs().max().item() for p in D.parameters()) == pytest.approx(0.01)
    assert D.fc4.bias.item() == pytest.approx(-0.01)


def test_vae_terms():
    loss = load("vae")()
    x = torch.tensor([1.0, 0.0, 0.5, 1.0], dtype=torch.float64).view(1, 1, 2, 2)
    logits = torch.zeros_like(x)
    assert loss.reconstruction(x, logits).item() == pytest.approx(4 * LOG2)
    three_channels = x.expand(1, 3, 2, 2)
    assert loss.reconstruction(three_channels, torch.zeros(1, 3, 2, 2)).item() == pytest.approx(
        4 * LOG2
    )  # summed over pixels, averaged over channels
    mean, std = torch.full((2, 64), 2.0), torch.ones(2, 64)
    assert loss.kl(mean, std).item() == pytest.approx(64 * 2.0, rel=1e-6)
    far = torch.full((1, 1, 2, 2), 1000.0)
    assert loss.reconstruction(torch.zeros(1, 1, 2, 2), far).item() == pytest.approx(
        4 * -math.log(1e-8), rel=1e-6
    )  # the released clip of probabilities


@pytest.mark.parametrize(("name", "turns"), [("ns", [0, 1, 6, 11]), ("vae", list(range(14)))])
def test_generator_learns_on_its_turns(name, turns):
    loss = default(name)
    assert [t for t in range(14) if loss.g_turn(t, 5)] == turns
    assert all(loss.g_turn(t, 1) for t in range(5))


@pytest.mark.parametrize("name", names())
def test_every_loss_keeps_the_contract(name):
    cls = load(name)
    assert cls.title
    assert cls.source
    assert set(cls.defaults) >= SHARED
    own = set(cls.defaults) - SHARED
    assert set(cls.space["wide"]) - SHARED == own == set(cls.space["narrow"]) - SHARED
    RunConfig(
        sweep="s", loss=name, dataset="d", number=0, seed=0, d_steps=1, evaluate_every=1, width=1,
        bn_decay=0.9, features="random", num_images=2, own={k: cls.defaults[k] for k in own},
        **{k: cls.defaults[k] for k in SHARED},
    )  # fmt: skip

    loss, generator = default(name), torch.Generator().manual_seed(0)
    shape = (3, 32, 32)
    G, D = loss.generator(shape, 0.125, 0.9), loss.discriminator(shape, True, 0.125)
    assert isinstance(G, Generator)
    run = Players(G, D, adam(G.parameters(), 1e-3, 0.5), adam(D.parameters(), 1e-3, 0.5))
    x = torch.rand(8, *shape, generator=generator)
    z = draw_z(8, loss.prior, generator)
    assert z.shape == (8, Z_DIM)
    before = [p.clone() for p in G.parameters()]
    for g_turn in (False, True):
        curves = loss.step(run, x, z, g_turn=g_turn, z_g=z if loss.fresh_z and g_turn else None)
        assert all(value.ndim == 0 and value.isfinite() for value in curves.values())
        assert not any(value.requires_grad for value in curves.values())
        moved = any((p != q).any() for p, q in zip(G.parameters(), before, strict=True))
        assert moved == (g_turn or name == "vae")


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_penalties_have_no_hidden_randomness(name):
    loss = default(name)
    D = loss.discriminator((1, 28, 28), False, 0.125)
    x, y = torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)
    draws = loss.draws(x, torch.Generator().manual_seed(3))
    first = loss.penalty(D, x, y, draws)
    torch.rand(7)
    assert loss.penalty(D, x, y, draws) == first
    assert first.ndim == 0


@pytest.mark.parametrize("name", names())
def test_steps_do_not_mix_devices(name):
    """On the meta device any tensor made on the wrong device raises."""
    loss = default(name).to("meta")
    with torch.device("meta"):
        G, D = loss.generator((1, 28, 28), 0.25, 0.9), loss.discriminator((1, 28, 28), True, 0.25)
    run = Players(G, D, adam(G.parameters(), 1e-3, 0.5), adam(D.parameters(), 1e-3, 0.5))
    x, z = torch.empty(8, 1, 28, 28, device="meta"), torch.empty(8, Z_DIM, device="meta")
    for value in loss.step(run, x, z, z_g=z if loss.fresh_z else None).values():
        assert value.device.type == "meta"


def test_unknown_loss_is_one_line():
    with pytest.raises(StudyError, match=r"unknown loss 'nsgan'; study/losses has: began, dragan"):
        load("nsgan")
