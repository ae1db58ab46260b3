"""Losses: closed forms by hand, limits, and the contract that every file in the folder keeps."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from study.errors import StudyError
from study.losses import file_names, load, names, require_contract, vae
from study.losses.base import Draws, GANLoss, Players
from study.settings.config import RunConfig, load_sweep
from study.training.networks import Z_DIM, Generator, draw_z, initialise
from study.training.optimizer import adam, float32
from study.training.penalties import Seen, gradient_penalty
from study.training.players import build

SHARED = {"lr", "beta1", "disc_iters", "batch_norm"}
SHIPPED = set(load_sweep("paired").losses)
"""The losses that come with the study; a file of one's own beside them is tried as they are."""
ADVERSARIAL = [name for name in names() if load(name).step is GANLoss.step]

REAL = torch.tensor([0.0, math.log(3.0)], dtype=torch.float64)  # sigmoid 1/2, 3/4
FAKE = torch.tensor([0.0, -math.log(3.0)], dtype=torch.float64)  # sigmoid 1/2, 1/4


def default(name: str) -> GANLoss:
    cls = load(name)
    return cls(**{k: v for k, v in cls.defaults.items() if k not in SHARED})


def g_loss_of(loss: GANLoss, d_real: Tensor, d_fake: Tensor) -> Tensor:
    return loss.g_loss(d_fake, d_real) if loss.g_sees_real else loss.g_loss(d_fake)


LOG2, LOG43, LOG4 = math.log(2), math.log(4 / 3), math.log(4)
CLOSED_FORMS = {  # name: (d_loss, g_loss) for REAL and FAKE
    "mm": (LOG2 + LOG43, -(LOG2 + LOG43) / 2),
    "ns": (LOG2 + LOG43, (LOG2 + LOG4) / 2),
    "dragan": (LOG2 + LOG43, (LOG2 + LOG4) / 2),
    "ls": (0.5 * (1 / 4 + 1 / 16), 0.5 * (1 / 4 + 9 / 16) / 2),
    "wgan": (-math.log(3), math.log(3) / 2),
    "wgan_gp": (-math.log(3), math.log(3) / 2),
    "hinge": ((1 + 0) / 2 + (1 + 0) / 2, math.log(3) / 2),  # relu(1 - log 3) = 0
    "ns_r1": (LOG2 + LOG43, (LOG2 + LOG4) / 2),
    "ns_ttur": (LOG2 + LOG43, (LOG2 + LOG4) / 2),
    # 0.9 times -log of 1/2 and 3/4, 0.1 times -log of 1/2 and 1/4; generated images as in ns
    "ns_smooth": (
        (LOG2 + 0.9 * LOG43 + 0.1 * LOG4) / 2 + (LOG2 + LOG43) / 2,
        (LOG2 + LOG4) / 2,
    ),
    # pairs: logits 0 and 0; log 3 and -log 3, whose difference has the sigmoid 9/10
    "rp": ((LOG2 + math.log(10 / 9)) / 2, (LOG2 + math.log(10)) / 2),
    "r3": ((LOG2 + math.log(10 / 9)) / 2, (LOG2 + math.log(10)) / 2),
}


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_closed_forms(name: str) -> None:
    loss = default(name)
    d_loss, g_loss = CLOSED_FORMS[name]
    assert loss.d_loss(REAL, FAKE).item() == pytest.approx(d_loss, rel=1e-12)
    assert g_loss_of(loss, REAL, FAKE).item() == pytest.approx(g_loss, rel=1e-12)


def test_every_adversarial_loss_but_began_has_a_closed_form() -> None:
    assert {*CLOSED_FORMS, "began"} == SHIPPED & {*ADVERSARIAL}
    assert SHIPPED - {*ADVERSARIAL} == {"vae"}
    assert len(SHIPPED) == 14


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_gradients_equal_finite_differences(name: str) -> None:
    loss = default(name)
    generator = torch.Generator().manual_seed(1)
    real, fake = (
        torch.randn(5, generator=generator, dtype=torch.float64, requires_grad=True)
        for _ in range(2)
    )
    loss.to(torch.float64)
    assert torch.autograd.gradcheck(loss.d_loss, (real, fake))
    assert torch.autograd.gradcheck(lambda f: g_loss_of(loss, real.detach(), f), (fake,))


def test_mm_generator_minimises_the_negative_of_its_part_of_d() -> None:
    loss = load("mm")()
    assert loss.g_loss(FAKE) == -loss.d_loss_fake(FAKE)


def test_mm_saturates_where_ns_does_not() -> None:
    sure = torch.tensor([-20.0], dtype=torch.float64, requires_grad=True)
    (mm,) = torch.autograd.grad(load("mm")().g_loss(sure), sure)
    (ns,) = torch.autograd.grad(load("ns")().g_loss(sure), sure)
    assert mm.item() == pytest.approx(-math.exp(-20), rel=1e-6)
    assert ns.item() == pytest.approx(-1, rel=1e-6)


def test_began_losses_and_unclipped_k() -> None:
    loss = load("began")(lambda_k=0.5, gamma=0.5)
    real, fake = torch.tensor([0.2, 0.4]), torch.tensor([0.5, 0.7])
    assert loss.d_loss(real, fake).item() == pytest.approx(0.3)  # k starts at 0
    loss.after_step(real, fake)
    k = loss.state_dict()["k"]
    assert k.item() == pytest.approx(0.5 * (0.5 * 0.3 - 0.6))  # -0.225: below 0
    assert loss.d_loss(real, fake).item() == pytest.approx(0.3 + 0.225 * 0.6)
    assert loss.g_loss(fake).item() == pytest.approx(0.6)
    assert loss.curves(real, fake)["M"].item() == pytest.approx(0.3 + abs(0.15 - 0.6))


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("logit", [-1000.0, 1000.0])
def test_values_and_gradients_are_finite_at_extreme_logits(name: str, logit: float) -> None:
    loss = default(name)
    real = torch.full((4,), logit, requires_grad=True)
    fake = torch.full((4,), -logit, requires_grad=True)
    total = loss.d_loss(real, fake) + g_loss_of(loss, real, fake)
    for value in (total, *torch.autograd.grad(total, (real, fake))):
        assert value.isfinite().all()


class Square(nn.Module):
    """D(x) = |x|²: its gradient is 2x, so every image has a norm of its own."""

    def forward(self, x: Tensor) -> Tensor:
        return x.square().sum((1, 2, 3))


def linear_d(weight: Tensor) -> nn.Module:
    """D(x) = <w, x>: its gradient is w everywhere."""

    class D(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * weight).sum((1, 2, 3))

    return D()


def test_gradient_penalty_of_a_linear_d_is_exact() -> None:
    weight = torch.zeros(1, 2, 2, dtype=torch.float64)
    weight[0, 0, 0], weight[0, 1, 1] = 3.0, 4.0  # norm 5 over all pixels; 3 and 4 along any axis
    x = torch.rand(6, 1, 2, 2, dtype=torch.float64)
    expected = (math.sqrt(25 + 1e-4) - 1) ** 2
    assert gradient_penalty(linear_d(weight), x).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_norms_are_per_image_not_of_the_batch() -> None:
    x = torch.zeros(2, 1, 1, 2, dtype=torch.float64)
    x[0, 0, 0], x[1, 0, 0] = torch.tensor([0.5, 0.0]), torch.tensor([0.0, 2.0])
    norms = [math.sqrt(1e-4 + 1), math.sqrt(1e-4 + 16)]
    expected = sum((norm - 1) ** 2 for norm in norms) / 2
    assert gradient_penalty(Square(), x).item() == pytest.approx(expected, rel=1e-12)


def test_wgan_gp_point_lies_between_each_pair() -> None:
    loss = load("wgan_gp")(lambda_gp=7.0)
    seen = []

    class D(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.detach().clone())
            return x.sum((1, 2, 3))

    real, fake = torch.zeros(2, 1, 1, 1).double(), torch.ones(2, 1, 1, 1).double()
    alpha = torch.tensor([0.25, 0.75], dtype=torch.float64).view(2, 1, 1, 1)
    value = loss.penalty(D(), real, fake, {"alpha": alpha})
    assert seen[0].flatten().tolist() == [0.25, 0.75]
    assert value.item() == pytest.approx(7 * (math.sqrt(1 + 1e-4) - 1) ** 2, rel=1e-3)


def test_dragan_penalty_is_on_the_sigmoid_around_real_images() -> None:
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


def test_squared_gradients_of_a_linear_d_are_exact() -> None:
    weight = torch.zeros(1, 2, 2, dtype=torch.float64)
    weight[0, 0, 0], weight[0, 1, 1] = 3.0, 4.0
    x, y = torch.rand(2, 6, 1, 2, 2, dtype=torch.float64)
    assert load("ns_r1")(gamma=0.5).penalty(linear_d(weight), x, y).item() == pytest.approx(6.25)
    assert load("r3")(gamma=0.5).penalty(linear_d(weight), x, y).item() == pytest.approx(12.5)


def test_r1_is_at_real_images_r2_at_generated_ones_one_norm_an_image() -> None:
    real = torch.tensor([1.0, 2.0], dtype=torch.float64).view(2, 1, 1, 1)
    fake = torch.tensor([0.0, 3.0], dtype=torch.float64).view(2, 1, 1, 1)
    at_real, at_fake = (4 + 16) / 2, 36 / 2  # means of |2x|^2
    assert load("ns_r1")(gamma=1.0).penalty(Square(), real, fake).item() == at_real / 2
    assert load("r3")(gamma=1.0).penalty(Square(), real, fake).item() == (at_real + at_fake) / 2


@pytest.mark.parametrize(("name", "forwards"), [("ns", 2), ("rp", 3), ("ns_r1", 3), ("r3", 4)])
def test_a_penalty_at_the_data_costs_no_forward_and_gs_real_images_one(
    name: str, forwards: int
) -> None:
    """And the step is that of a penalty which computes D's forward for itself.

    Real and generated images are one forward, but for a penalty that takes D's gradient there.
    """
    draws = torch.Generator().manual_seed(8)
    x = torch.rand(8, 1, 28, 28, generator=draws)
    z = draw_z(8, "uniform", draws)
    ended: list[Tensor] = []
    for reused in (True, False):
        loss, players = default(name), tiny_players(default(name), False)
        calls: list[int] = []
        players.discriminator.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        if not reused:
            own = type(loss).penalty

            def anew(
                D: nn.Module,
                x_real: Tensor,
                x_fake: Tensor,
                draws: Draws,
                own: Callable[..., Tensor] = own,
                loss: GANLoss = loss,
            ) -> Tensor:
                D = D.D if isinstance(D, Seen) else D
                return own(loss, D, x_real.detach(), x_fake.detach(), draws)

            loss.penalty = anew  # type: ignore[method-assign,assignment]
        for _ in range(3):
            loss.step(players, x, z)
        if reused:
            assert len(calls) == 3 * forwards
        ended.append(torch.cat([p.detach().flatten() for p in both(players)]))
    one, other = ended
    assert torch.allclose(one, other, rtol=0, atol=1e-6)


def tiny_players(
    loss: GANLoss, batch_norm: bool, width: float = 0.125, lr: float = 1e-3
) -> Players:
    shape = (1, 28, 28)
    G, D = loss.generator(shape, width, 0.9), loss.discriminator(shape, batch_norm, width)
    for network in (G, D):
        initialise(network, torch.Generator().manual_seed(5))
    g_lr = lr * loss.g_lr_ratio
    return Players(G, D, adam(G.parameters(), g_lr, 0.5), adam(D.parameters(), lr, 0.5))


def both(players: Players) -> list[nn.Parameter]:
    return [*players.generator.parameters(), *players.discriminator.parameters()]


def test_gs_loss_sees_real_images_after_ds_update() -> None:
    loss = load("rp")()
    seen: list[tuple[Tensor, Tensor]] = []

    def g_loss(d_fake: Tensor, d_real: Tensor) -> Tensor:
        seen.append((d_fake, d_real))
        return d_fake.mean()

    loss.g_loss = g_loss  # type: ignore[method-assign]
    players = tiny_players(loss, True)
    x, z = torch.rand(8, 1, 28, 28), torch.rand(8, Z_DIM)
    loss.step(players, x, z)
    (d_fake, d_real), D = seen[0], players.discriminator
    assert torch.equal(d_real, D(x))
    assert not d_real.requires_grad
    assert d_fake.requires_grad


def test_two_time_scales_are_two_learning_rates(tmp_path: Path) -> None:
    config = RunConfig(
        sweep="s", loss="ns_ttur", dataset="mnist", number=0, seed=0, d_steps=1, evaluate_every=1,
        width=0.125, bn_decay=0.9, features="random", num_images=2, own={"g_lr_ratio": 0.25},
        lr=1e-3, beta1=0.5, disc_iters=1, normalisation="batch", batch_norm=True,
    )  # fmt: skip
    players = build(config, (1, 28, 28), torch.device("cpu"))[1]
    assert players.d_optimizer.lr == float32(1e-3)
    assert players.g_optimizer.lr == float32(2.5e-4)


@pytest.mark.parametrize(
    ("declared", "takes", "message"),
    [
        (False, "def g_loss(self, d_fake, d_real):", r"g_loss must take \(d_fake\), since g_sees"),
        (True, "def g_loss(self, d_fake):", r"g_loss must take \(d_fake, d_real\), since g_sees"),
    ],
)
def test_a_loss_states_what_its_g_loss_sees(declared: bool, takes: str, message: str) -> None:
    text = f"class Loss(Base):\n    g_sees_real = {declared}\n    {takes} return d_fake.mean()"
    there = {"Base": load("ns")}
    exec(text, there)
    with pytest.raises(StudyError, match=message) as error:
        require_contract("mine", there["Loss"])
    assert "study/losses/mine.py" in str(error.value)
    assert "\n" not in str(error.value)


def test_wgan_clips_every_parameter_of_d() -> None:
    loss = load("wgan")(clip=0.01)
    D = loss.discriminator((1, 28, 28), True, 0.125)
    nn.init.constant_(D.get_parameter("bn2.weight"), 1.0)
    nn.init.constant_(D.get_parameter("fc4.bias"), -3.0)
    loss.after_d_step(D)
    assert max(p.abs().max().item() for p in D.parameters()) == pytest.approx(0.01)
    assert D.get_parameter("fc4.bias").item() == pytest.approx(-0.01)


def test_vae_terms() -> None:
    loss = vae.Loss()
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
def test_generator_learns_on_its_turns(name: str, turns: list[int]) -> None:
    loss = default(name)
    assert [t for t in range(14) if loss.g_turn(t, 5)] == turns
    assert all(loss.g_turn(t, 1) for t in range(5))


@pytest.mark.parametrize("name", file_names())
def test_every_loss_keeps_the_contract(name: str) -> None:
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
def test_penalties_have_no_hidden_randomness(name: str) -> None:
    loss = default(name)
    D = loss.discriminator((1, 28, 28), False, 0.125)
    x, y = torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)
    draws = loss.draws(x, torch.Generator().manual_seed(3))
    first = loss.penalty(D, x, y, draws)
    torch.rand(7)
    assert loss.penalty(D, x, y, draws) == first
    assert first.ndim == 0


@pytest.mark.parametrize("name", names())
def test_steps_do_not_mix_devices(name: str) -> None:
    """On the meta device any tensor made on the wrong device raises."""
    loss = default(name).to("meta")
    with torch.device("meta"):
        G, D = loss.generator((1, 28, 28), 0.25, 0.9), loss.discriminator((1, 28, 28), True, 0.25)
    run = Players(G, D, adam(G.parameters(), 1e-3, 0.5), adam(D.parameters(), 1e-3, 0.5))
    x, z = torch.empty(8, 1, 28, 28, device="meta"), torch.empty(8, Z_DIM, device="meta")
    for value in loss.step(run, x, z, z_g=z if loss.fresh_z else None).values():
        assert value.device.type == "meta"


def test_unknown_loss_is_one_line() -> None:
    with pytest.raises(
        StudyError, match=r"unknown loss 'nsgan'; .* study/losses has: began, dragan"
    ):
        load("nsgan")
