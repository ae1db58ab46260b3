"""What a loss is, and the one training step that all adversarial losses share."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from study.settings.hyperparameters import Space
from study.training.networks import Discriminator, Generator, ImageShape, Prior, together
from study.training.optimizer import Adam
from study.training.penalties import Seen

Draws = dict[str, Tensor]


@dataclass
class Players:
    """The two networks of a run and their optimisers (the VAE's: its decoder and its encoder)."""

    generator: Generator
    discriminator: nn.Module
    g_optimizer: Adam
    d_optimizer: Adam


class GANLoss(nn.Module):
    """Base of all losses. A new one states its class attributes and `d_loss` and `g_loss`.

    `d_real` and `d_fake` are D's outputs for a batch of real and of generated images, one an
    image, shape (N,): logits, or BEGAN's mean absolute reconstruction errors. All losses are
    scalars to minimise. State (BEGAN's k) is a buffer, so that checkpoints hold it.
    """

    title: ClassVar[str]
    """The name in tables and figures."""
    source: ClassVar[str]
    """Paper and equation."""
    defaults: ClassVar[Mapping[str, Any]]
    """The authors' own setting: lr, beta1, disc_iters, batch_norm and this loss's own.

    Of the losses that the paper does not have, the setting is this study's choice.
    """
    space: ClassVar[Mapping[str, Space]] = {"wide": {}, "narrow": {}}
    """Ranges of this loss's own hyperparameters, the same names in both and in `defaults`; a
    default has the type of what is drawn (1.0, not 1, from a `FloatDistribution`). `__init__` takes
    them by name. A shared one named here is replaced."""
    labels: ClassVar[Mapping[str, str]] = {}
    """What axes call this loss's own hyperparameters; by their names where nothing is said."""
    prior: ClassVar[Prior] = "uniform"
    """The distribution of z."""
    fresh_z: ClassVar[bool] = False
    """Whether G's update draws its own z instead of D's."""
    second_look: ClassVar[bool] = False
    """Whether `after_step` is called, with D's outputs computed again after both updates."""
    g_sees_real: ClassVar[bool] = False
    """Whether `g_loss` also takes D's outputs on the real images, computed after D's update."""
    penalised: ClassVar[tuple[Literal["real", "fake"], ...]] = ()
    """The batches at whose images `penalty` takes D's gradient. D's forward on them is reused."""
    g_lr_ratio: float = 1.0
    """G's learning rate over D's, which is `lr`."""

    def d_loss_real(self, d_real: Tensor) -> Tensor:
        """The part of D's loss on real images."""
        raise NotImplementedError

    def d_loss_fake(self, d_fake: Tensor) -> Tensor:
        """The part of D's loss on generated images."""
        raise NotImplementedError

    def d_loss(self, d_real: Tensor, d_fake: Tensor) -> Tensor:
        """D's loss without penalty. Override it whole where it is no sum of two parts."""
        return self.d_loss_real(d_real) + self.d_loss_fake(d_fake)

    def g_loss(self, *outputs: Any, **_: Any) -> Tensor:
        """G's loss: `g_loss(d_fake)` or, where `g_sees_real` is set, `g_loss(d_fake, d_real)`."""
        raise NotImplementedError

    def draws(self, x_real: Tensor, generator: torch.Generator | None = None) -> Draws:
        """Everything random that `penalty` needs for this batch."""
        return {}

    def penalty(
        self, D: nn.Module, x_real: Tensor, x_fake: Tensor, draws: Draws | None = None
    ) -> Tensor:
        """The weighted penalty added to D's loss; `draws` are drawn anew where not given.

        `D` maps images (N, C, H, W) to (N,); a batch that `step` has put through it already, and
        that is `penalised`, costs no second forward (`penalties.Seen`).
        """
        return x_real.new_zeros(())

    def after_d_step(self, D: nn.Module) -> None:
        """Called right after D's update (WGAN's clip)."""

    def after_step(self, d_real: Tensor, d_fake: Tensor) -> None:
        """Called after both updates where `second_look` is set (BEGAN's k)."""

    def curves(self, d_real: Tensor, d_fake: Tensor) -> dict[str, Tensor]:
        """What to record of a step beside the losses: D's accuracy, logit 0 as threshold."""
        return {
            "accuracy_real": (d_real > 0).float().mean(),
            "accuracy_fake": (d_fake < 0).float().mean(),
        }

    def generator(self, image_shape: ImageShape, width: float, bn_decay: float) -> Generator:
        """The generator that this loss trains: the same for all."""
        return Generator(image_shape, width, bn_decay)

    def discriminator(self, image_shape: ImageShape, batch_norm: bool, width: float) -> nn.Module:
        """The discriminator that this loss trains: the same for all but BEGAN and the VAE."""
        return Discriminator(image_shape, batch_norm, width)

    def real_for_g(self, D: nn.Module, x_real: Tensor) -> tuple[Tensor, ...]:
        """D's outputs on real images for a loss of G that asks for them; constants to G."""
        if not self.g_sees_real:
            return ()
        with torch.no_grad():
            return (D(x_real),)

    def g_turn(self, step: int, disc_iters: int) -> bool:
        """Whether G learns on this step (from 0): the first, then after every `disc_iters` D steps.

        The released schedule: with disc_iters 5, G gets a fifth of the updates, D no more.
        """
        return step == 0 or (step - 1) % disc_iters == 0

    def step(
        self,
        players: Players,
        x_real: Tensor,
        z: Tensor,
        *,
        g_turn: bool = True,
        z_g: Tensor | None = None,
        draws: Draws | None = None,
    ) -> dict[str, Tensor]:
        """One D update and, on G's turn, one G update; nothing random but what is given.

        x_real (N, C, H, W) in [0, 1], z (N, 64); `z_g` is G's own z where `fresh_z` is set.
        Returns detached scalars: losses before each update, penalty, accuracies. Where both
        updates use one z, as the released code does, the generated batch and its graph serve
        both, which is the same computation at the price of one forward.
        """
        G, D = players.generator, players.discriminator
        with torch.set_grad_enabled(g_turn and z_g is None):
            x_fake = G(z)

        real = x_real.detach().requires_grad_("real" in self.penalised)
        fake = x_fake.detach().requires_grad_("fake" in self.penalised)
        d_real, d_fake = (D(real), D(fake)) if self.penalised else together(D, real, fake)
        seen = Seen(D, (real, d_real), (fake, d_fake)) if self.penalised else D
        penalty = self.penalty(seen, real, fake, draws)
        d_loss = self.d_loss(d_real, d_fake) + penalty
        players.d_optimizer.minimise(d_loss)
        self.after_d_step(D)

        curves = {"d_loss": d_loss, "penalty": penalty}
        if type(self).d_loss is GANLoss.d_loss:
            curves["d_loss_real"] = self.d_loss_real(d_real)
            curves["d_loss_fake"] = self.d_loss_fake(d_fake)
        if g_turn:
            if z_g is None:
                G.move_averages()
            else:
                x_fake = G(z_g)
            curves["g_loss"] = self.g_loss(D(x_fake), *self.real_for_g(D, x_real))
            players.g_optimizer.minimise(curves["g_loss"])

        with torch.no_grad():
            if self.second_look:
                if g_turn:
                    x_fake = G(z)
                else:  # the same weights and z give the same images
                    G.move_averages()
                d_real, d_fake = together(D, x_real, x_fake)
                self.after_step(d_real, d_fake)
            curves |= self.curves(d_real, d_fake)
        return {name: value.detach() for name, value in curves.items()}
