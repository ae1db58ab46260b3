"""The study's baseline: a variational autoencoder with Bernoulli pixels (Kingma & Welling 2014).

It shares data, decoder (the generator, with ReLU), budget, evaluation and records with the losses
and has its own step. The released code averages the reconstruction over batch and channels, sums
over pixels, and clips probabilities to [1e-8, 1 - 1e-8]. Here the same clip acts on the logits:
equal in exact arithmetic, while in float32 1 - 1e-8 rounds to 1 and the released form can reach
log(0).
"""

import math

from torch import Tensor, nn
from torch.nn.functional import relu, softplus

from study.losses.base import Draws, GANLoss, Players
from study.training.networks import Encoder, Generator, ImageShape

MAX_LOGIT = math.log((1 - 1e-8) / 1e-8)


class Loss(GANLoss):
    title = "VAE"
    source = "Kingma & Welling 2014, arXiv 1312.6114, eq. 10"
    defaults = {"lr": 5e-5, "beta1": 0.5, "disc_iters": 1, "batch_norm": True}
    prior = "normal"  # the first release evaluated with uniform z by mistake

    def generator(self, image_shape: ImageShape, width: float, bn_decay: float) -> Generator:
        return Generator(image_shape, width, bn_decay, activation=relu)

    def discriminator(self, image_shape: ImageShape, batch_norm: bool, width: float) -> nn.Module:
        return Encoder(image_shape, batch_norm, width)

    def g_turn(self, step: int, disc_iters: int) -> bool:
        """Always: the released code's VAE ignores disc_iters."""
        return True

    def reconstruction(self, x: Tensor, logits: Tensor) -> Tensor:
        """Cross entropy of pixels (N, C, H, W): summed over H, W; averaged over N and C; nats."""
        logits = logits.clamp(-MAX_LOGIT, MAX_LOGIT)
        nats = x * softplus(-logits) + (1 - x) * softplus(logits)
        return nats.sum((2, 3)).mean()

    def kl(self, mean: Tensor, std: Tensor) -> Tensor:
        """KL(N(mean, std) || N(0, 1)) of (N, 64): summed over z, averaged over N; nats."""
        variance = std.square()
        return 0.5 * (mean.square() + variance - (1e-8 + variance).log() - 1).sum(1).mean()

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
        """One update of encoder and decoder; z (N, 64) is the noise of the posterior's sample.

        The decoder learns on every step, whatever disc_iters says (the released code's rule).
        """
        mean, std = players.discriminator(x_real)
        logits = players.generator.logits(mean + std * z)
        reconstruction, kl = self.reconstruction(x_real, logits), self.kl(mean, std)
        loss = reconstruction + kl
        both = (players.d_optimizer, players.g_optimizer)
        for optimizer in both:
            optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for optimizer in both:
            optimizer.step()
        curves = {"loss": loss, "reconstruction": reconstruction, "kl": kl}
        return {name: value.detach() for name, value in curves.items()}
