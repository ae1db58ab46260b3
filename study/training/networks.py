"""The study's networks: one generator, one discriminator, BEGAN's autoencoder, the VAE's encoder.

Architecture after InfoGAN, as the authors' released code builds it (google/compare_gan v1; the
paper's section 5.1 names it only). Convolutions are 4x4 with stride 2 and padding 1, which is
TensorFlow's SAME for even sizes. `width` multiplies every hidden width; 1.0 is the paper's.
Leaky ReLU has slope 0.2 (also at exactly 0, where the released max(x, 0.2x) has slope 1).
"""

import hashlib
from collections.abc import Callable
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

Z_DIM = 64
LEAK = 0.2
BN_EPSILON = 1e-3
INIT_STD = 0.02

ImageShape = tuple[int, int, int]
Prior = Literal["uniform", "normal"]


def stream(seed: int, name: str) -> torch.Generator:
    """A generator on the CPU (so that every device gets the same numbers), by seed and purpose."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))


def draw_z(n: int, prior: Prior, generator: torch.Generator) -> Tensor:
    """z of shape (n, 64): U(-1, 1) for the GANs, N(0, 1) for the VAE.

    Drawn on the CPU, so that every device gets the same numbers.
    """
    if prior == "normal":
        return torch.randn(n, Z_DIM, generator=generator)
    return 2 * torch.rand(n, Z_DIM, generator=generator) - 1


def lrelu(x: Tensor) -> Tensor:
    """In place: none of the layers before it needs its own output for a gradient."""
    return F.leaky_relu_(x, LEAK)


class ImageConv2d(nn.Conv2d):
    """The 4x4, stride 2 convolution of an image. Equal to nn.Conv2d.

    With one or three channels torch's gradient towards the image takes a slow path on CPUs. Here
    it is an image made of blocks, as `ImageConvTranspose2d` makes one; the rest is torch's own.
    """

    def __init__(self, channels: int, features: int) -> None:
        super().__init__(channels, features, 4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight, self.bias  # once: to read a normalised weight moves its norm
        if not x.requires_grad:
            return F.conv2d(x, weight, bias, 2, 1)
        of_weight = WeightGradient.apply(x, weight, bias)
        return cast(Tensor, ImageConvolution.apply(x, weight, bias, of_weight))


class ImageConvolution(torch.autograd.Function):
    """F.conv2d(x, weight, bias, 2, 1) of an image x, with the gradient towards x alone.

    Weight and bias get theirs through `of_weight`, to which what comes in is handed on: a node of
    torch's graph computes all its gradients or none, and most passes need only one of the two.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, of_weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return F.conv2d(x, weight, bias, 2, 1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weight,), (gradient,) = ctx.saved_tensors, gradients
        return image_of(gradient, weight).contiguous(), None, None, gradient


class WeightGradient(torch.autograd.Function):
    """Stands for a convolution's weight and bias: of its output's shape, and without memory."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return x.new_zeros(()).expand(len(x), len(weight), x.shape[2] // 2, x.shape[3] // 2)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (gradient,) = ctx.saved_tensors, gradients
        weight, n_biases = weight.to(x.dtype), [len(weight)]  # of bf16 images, with autocast
        wanted = (False, True, True)
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            gradient, x, weight, n_biases, (2, 2), (1, 1), (1, 1), False, (0, 0), 1, wanted
        )
        return None, of_weight, of_bias


class ImageConvTranspose2d(nn.ConvTranspose2d):
    """The 4x4, stride 2 transposed convolution that makes an image: `ImageConv2d`'s transpose."""

    def __init__(self, features: int, channels: int) -> None:
        super().__init__(features, channels, 4, 2, 1)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        return image_of(x, self.weight, self.bias)


def image_of(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """F.conv_transpose2d(x, weight, bias, 2, 1), as a 2x2 one that makes 2x2 blocks of pixels.

    Four times the channels and a quarter of the pixels avoid CPUs' slow path for few channels.
    """
    blocks = F.conv_transpose2d(
        x,
        F.pixel_unshuffle(weight, 2),
        None if bias is None else bias.repeat_interleave(4),
    )
    n, _, rows, columns = blocks.shape
    pixels = blocks.view(n, -1, 2, 2, rows, columns).permute(0, 1, 4, 2, 5, 3)
    return pixels.reshape(n, -1, 2 * rows, 2 * columns)[:, :, 1:-1, 1:-1]


class BatchNorm(nn.Module):
    """Batch normalisation over every axis but 1, as the released graphs compute it.

    The moving variance takes the biased batch variance (torch's own takes n/(n-1) of it), and the
    moving averages can be moved a second time for a forward that serves two updates.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, features: int, decay: float = 0.999) -> None:
        super().__init__()
        self.decay = decay
        self.batches = 1  # that come in one tensor: see `together`
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("variance", torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return F.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=BN_EPSILON)
        if self.batches > 1:
            return torch.cat([self.normalise(part) for part in x.chunk(self.batches)])
        return self.normalise(x)

    def normalise(self, x: Tensor) -> Tensor:
        """By the batch's own statistics, towards which the averages move."""
        # The functional form hides the batch statistics; the native one returns them.
        y, mean, inverse_std = torch.native_batch_norm(
            x, self.weight, self.bias, None, None, True, 0.0, BN_EPSILON
        )
        self.batch = (mean.detach(), inverse_std.detach().pow(-2) - BN_EPSILON)
        self.move_averages()
        return y

    def move_averages(self) -> None:
        """Move the averages towards the last batch's statistics by 1 - decay."""
        mean, variance = self.batch
        self.mean.lerp_(mean.to(self.mean.dtype), 1 - self.decay)
        self.variance.lerp_(variance.to(self.mean.dtype), 1 - self.decay)


class Generator(nn.Module):
    """z (N, 64) -> images (N, C, H, W) in [0, 1].

    The paper's text does not say so, but the released code uses leaky ReLU here (and plain ReLU
    in the VAE's decoder, which is otherwise this network).
    """

    def __init__(
        self,
        image_shape: ImageShape,
        width: float = 1.0,
        bn_decay: float = 0.999,
        activation: Callable[[Tensor], Tensor] = lrelu,
    ) -> None:
        super().__init__()
        channels, height, _ = image_shape
        side, wide, narrow, hidden = (
            height // 4,
            int(128 * width),
            int(64 * width),
            int(1024 * width),
        )
        self.activation = activation
        self.fc1 = nn.Linear(Z_DIM, hidden)
        self.bn1 = BatchNorm(hidden, bn_decay)
        self.fc2 = nn.Linear(hidden, wide * side * side)
        self.bn2 = BatchNorm(wide * side * side, bn_decay)
        self.unflatten = nn.Unflatten(1, (wide, side, side))
        self.deconv3 = nn.ConvTranspose2d(wide, narrow, 4, 2, 1)
        self.bn3 = BatchNorm(narrow, bn_decay)
        self.deconv4 = ImageConvTranspose2d(narrow, channels)

    def logits(self, z: Tensor) -> Tensor:
        """The images before the last sigmoid, (N, C, H, W)."""
        h = self.activation(self.bn1(self.fc1(z)))
        h = self.activation(self.bn2(self.fc2(h)))
        h = self.activation(self.bn3(self.deconv3(self.unflatten(h))))
        return cast(Tensor, self.deconv4(h))

    def forward(self, z: Tensor) -> Tensor:
        return self.logits(z).sigmoid()

    def move_averages(self) -> None:
        """Move BN's averages once more: one forward with one z serves D's update and G's.

        The released graph runs the generator in each of them, and its averages move each time.
        """
        for bn in (self.bn1, self.bn2, self.bn3):
            bn.move_averages()


class Discriminator(nn.Module):
    """Images (N, C, H, W) -> logits (N,). Batch statistics are used throughout training."""

    outputs = 1

    def __init__(self, image_shape: ImageShape, batch_norm: bool, width: float = 1.0) -> None:
        super().__init__()
        channels, height, _ = image_shape
        side, wide, narrow, hidden = (
            height // 4,
            int(128 * width),
            int(64 * width),
            int(1024 * width),
        )
        self.conv1 = ImageConv2d(channels, narrow)
        self.conv2 = nn.Conv2d(narrow, wide, 4, 2, 1)
        self.bn2 = BatchNorm(wide) if batch_norm else nn.Identity()
        self.fc3 = nn.Linear(wide * side * side, hidden)
        self.bn3 = BatchNorm(hidden) if batch_norm else nn.Identity()
        self.fc4 = nn.Linear(hidden, self.outputs)

    def layers(self, x: Tensor) -> Tensor:
        h = lrelu(self.conv1(x))
        h = lrelu(self.bn2(self.conv2(h)).flatten(1))
        h = lrelu(self.bn3(self.fc3(h)))
        return cast(Tensor, self.fc4(h))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x).squeeze(1)


class Encoder(Discriminator):
    """The VAE's encoder: images (N, C, H, W) -> mean and standard deviation of z, each (N, 64).

    The discriminator's trunk with a last layer of 2 x 64; std = 1e-6 + softplus(.).
    """

    outputs = 2 * Z_DIM

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        mean, raw = self.layers(x).chunk(2, dim=1)
        return mean, 1e-6 + F.softplus(raw)


class Autoencoder(nn.Module):
    """BEGAN's discriminator: images (N, C, H, W) -> mean absolute reconstruction error (N,).

    The released code's small autoencoder (code of 64), not the one of the BEGAN paper.
    """

    def __init__(self, image_shape: ImageShape, batch_norm: bool, width: float = 1.0) -> None:
        super().__init__()
        channels, height, _ = image_shape
        side, wide, narrow = height // 4, int(128 * width), int(64 * width)
        self.conv1 = ImageConv2d(channels, narrow)
        self.conv2 = nn.Conv2d(narrow, wide, 4, 2, 1)
        self.fc3 = nn.Linear(wide * side * side, narrow)
        self.bn3 = BatchNorm(narrow) if batch_norm else nn.Identity()
        self.fc4 = nn.Linear(narrow, wide * side * side)
        self.bn4 = BatchNorm(wide * side * side) if batch_norm else nn.Identity()
        self.unflatten = nn.Unflatten(1, (wide, side, side))
        self.deconv5 = nn.ConvTranspose2d(wide, narrow, 4, 2, 1)
        self.bn5 = BatchNorm(narrow) if batch_norm else nn.Identity()
        self.deconv6 = ImageConvTranspose2d(narrow, channels)

    def reconstruct(self, x: Tensor) -> Tensor:
        h = self.conv2(lrelu(self.conv1(x)))  # no activation here in the released code
        h = lrelu(self.bn3(self.fc3(h.flatten(1))))
        h = lrelu(self.bn4(self.fc4(h)))
        h = lrelu(self.bn5(self.deconv5(self.unflatten(h))))
        return cast(Tensor, self.deconv6(h)).sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.reconstruct(x)).abs().mean((1, 2, 3))


KEEPS_BATCHES_APART = {
    *(Discriminator, Autoencoder, ImageConv2d, ImageConvTranspose2d, BatchNorm),
    *(nn.Conv2d, nn.ConvTranspose2d, nn.Linear, nn.Unflatten, nn.Identity),
}
"""Types of modules; no other, nor a subclass: spectral normalisation makes those of its layers."""


def together(D: nn.Module, *batches: Tensor) -> tuple[Tensor, ...]:
    """D's outputs on batches of one size, as if each was put through D alone, in their order.

    Where no layer mixes images but `BatchNorm`, which keeps batches apart, one forward takes them
    all: half the operations, and products of twice the size.
    """
    modules = list(D.modules())
    if not all(type(module) in KEEPS_BATCHES_APART for module in modules):
        return tuple(D(batch) for batch in batches)
    layers = [module for module in modules if isinstance(module, BatchNorm)]
    for layer in layers:
        layer.batches = len(batches)
    try:
        outputs: Tensor = D(torch.cat(batches))
    finally:
        for layer in layers:
            layer.batches = 1
    return outputs.chunk(len(batches))


def place(network: nn.Module, device: torch.device, width: float) -> None:
    """Move a network with its initial weights to the device, in the layout that is fast there.

    Below full width, on a CPU, the channels of an image come last: oneDNN spends more on bringing
    few channels into an order of its own. (Drawn in this order the weights would be others.)
    """
    if device.type == "cpu" and width < 1:
        network.to(memory_format=torch.channels_last)
    network.to(device)


def normalise_spectrally(D: nn.Module, generator: torch.Generator) -> None:
    """Divide every weight matrix of `D` by its largest singular value, as estimated, in place.

    Miyato et al. 2018 (arXiv 1802.05957, eq. 8 and algorithm 1), by torch's own parametrisation:
    one power iteration a forward in training. Its vectors begin at a draw from `generator`, after
    15 iterations on the weights as they are, so initialise `D` first. What is trained, clipped and
    kept with checkpoints is the matrix before the division.
    """
    matrices = [m for m in D.modules() if isinstance(m, nn.Conv2d | nn.Linear | nn.ConvTranspose2d)]
    seed = int(torch.randint(2**31, (), generator=generator))
    with torch.random.fork_rng(devices=[]):  # torch draws the vectors from its global generator
        torch.manual_seed(seed)
        for module in matrices:
            spectral_norm(module)


def initialise(network: nn.Module, generator: torch.Generator) -> None:
    """Draw every weight of `network` in place from `generator`, in the order of its modules.

    Linear and transposed convolution: normal(0, 0.02); convolution: the same, cut at two standard
    deviations; biases 0; BN scale 1, shift 0, moving mean 0, moving variance 1.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.trunc_normal_(
                module.weight, 0, INIT_STD, -2 * INIT_STD, 2 * INIT_STD, generator=generator
            )
        elif isinstance(module, nn.Linear | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, 0, INIT_STD, generator=generator)
        elif isinstance(module, BatchNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.mean)
            nn.init.ones_(module.variance)
        if isinstance(module, nn.Conv2d | nn.Linear | nn.ConvTranspose2d | BatchNorm):
            nn.init.zeros_(cast(Tensor, module.bias))
