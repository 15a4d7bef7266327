"""Losses: the adversarial games, gradient penalties, and likelihood terms in nats; all per example or per element."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, relu, softplus

from trilemma.maths.paths import reverse_variances
from trilemma.maths.shapes import expand, sum_per_example

# --- Adversarial games ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Play:
    """What critic and generator minimise, from the critic's raw scores on real and on fake data, elementwise: (B,)."""

    critic: Callable[[Tensor, Tensor], Tensor]
    generator: Callable[[Tensor, Tensor], Tensor]


PLAYS: dict[str, Play] = {
    # Goodfellow et al. 2014, eq. 1 with scores as logits: -ln D(x) - ln(1 - D(G(z))), and ln(1 - D(G(z))).
    "minimax": Play(
        critic=lambda real, fake: softplus(-real) + softplus(fake),
        generator=lambda real, fake: -softplus(fake),
    ),
    # The same paper, end of section 3: -ln D(G(z)), whose gradient does not vanish while the critic wins.
    "non-saturating": Play(
        critic=lambda real, fake: softplus(-real) + softplus(fake),
        generator=lambda real, fake: softplus(-fake),
    ),
    # Arjovsky et al. 2017, eq. 2; the critic must be kept Lipschitz (`gradient_penalty`).
    "wasserstein": Play(
        critic=lambda real, fake: fake - real,
        generator=lambda real, fake: -fake,
    ),
    # Lim & Ye 2017; Miyato et al. 2018, eq. 16 and 17.
    "hinge": Play(
        critic=lambda real, fake: relu(1 - real) + relu(1 + fake),
        generator=lambda real, fake: -fake,
    ),
    # Jolicoeur-Martineau 2019, RpGAN; Huang et al. 2024 (R3GAN) with R1 and R2. Real and fake are paired by position.
    "relativistic": Play(
        critic=lambda real, fake: softplus(fake - real),
        generator=lambda real, fake: softplus(real - fake),
    ),
    # Mao et al. 2017, eq. 9.
    "least-squares": Play(
        critic=lambda real, fake: ((real - 1) ** 2 + fake**2) / 2,
        generator=lambda real, fake: (fake - 1) ** 2 / 2,
    ),
}


def squared_gradient_norm(scores: Tensor, x: Tensor) -> Tensor:
    """|d score / dx|^2 per example (B,), differentiable: R1 on real x, R2 on fakes (Mescheder et al. 2018, eq. 9).

    `scores` (B, ...) comes from `x` (B, C, *grid), which requires gradients. Multiply by gamma / 2.
    """
    (gradient,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    # In bf16 a sum of thousands of squares loses most of its terms.
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    return sum_per_example(gradient.square())


def gradient_penalty(critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, t: Tensor) -> Tensor:
    """(|d critic / dx| - 1)^2 at real + t (fake - real), per example (B,) (Gulrajani et al. 2017, eq. 3).

    `t` (B,) is uniform on [0, 1]. Multiply by lambda = 10.
    """
    between = torch.lerp(real.detach(), fake.detach(), expand(t.to(real.dtype), real)).requires_grad_()
    squared = squared_gradient_norm(critic(between), between)
    slope = torch.sqrt(squared + 1e-12)  # the root's own slope is infinite at 0, where a dead critic sits
    return (slope - 1).square()


# --- Likelihood terms, in nats ----------------------------------------------------------------------------------------


def kl_to_standard_normal(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, e^log_variance) || N(0, 1)) per latent dimension, (B, D) (Kingma & Welling 2014, appendix B)."""
    return (mean.square() + torch.expm1(log_variance) - log_variance) / 2


def free_bits(kl: Tensor, minimum: float) -> Tensor:
    """Let every latent dimension of every example spend `minimum` nats unpunished: (B, D) -> (B, D).

    Kingma et al. 2016, eq. 15, but per example: their mean over the batch would couple examples, and a batch cut into
    micro-batches would train differently.
    """
    return kl.clamp(min=minimum)


def gaussian_nll(mean: Tensor, x: Tensor, log_scale: Tensor) -> Tensor:
    """-ln N(x; mean, e^(2 log_scale)) per element; shapes broadcast. A density: on quantised data it is unbounded."""
    return ((x - mean) * torch.exp(-log_scale)).square() / 2 + log_scale + math.log(2 * math.pi) / 2


def bernoulli_nll(logits: Tensor, x: Tensor) -> Tensor:
    """-ln Bernoulli(x; sigmoid(logits)) per element, for x in {0, 1}; on greys it is not a likelihood."""
    return softplus(logits) - x * logits


def discretised_gaussian_nll(
    mean: Tensor, x: Tensor, log_scale: Tensor, *, bin_width: float, low: float, high: float
) -> Tensor:
    """-ln of a Gaussian's mass in x's bin, per element (Ho et al. 2020, eq. 13).

    Bins are centred on low, low + bin_width, ..., high, and the two outer ones are open, so that the levels' masses
    sum to 1. Shapes broadcast; x, mean and e^log_scale are in the same units.
    """
    distance, half = x - mean, bin_width / 2
    # The normal is symmetric: measured on the side where the tail function is small, no digits cancel.
    distance = distance.abs()
    precision = torch.exp(-log_scale)
    near, far = (half - distance) * precision, (-half - distance) * precision
    log_near = torch.special.log_ndtr(near)
    # Mass of the bin = near (1 - far / near); bins too narrow for the difference take density times width instead.
    drop = (log_near - torch.special.log_ndtr(far)).clamp(min=1e-30)
    inside = log_near + torch.log(-torch.expm1(-drop))
    narrow = -gaussian_nll(mean, x, log_scale) + math.log(bin_width)
    inside = torch.where(bin_width * precision < 1e-3, narrow, inside)
    below = torch.special.log_ndtr((x + half - mean) * precision)
    above = torch.special.log_ndtr((mean - x + half) * precision)
    return -_open_ends(x, inside, below, above, low=low + half, high=high - half)


def reverse_step_kl(x: Tensor, x0: Tensor, v: Tensor, now: Tensor, after: Tensor) -> Tensor:
    """KL of a learned reverse step from level `now` to `after`, (B,) each, from the posterior, in nats per element.

    x (B, C, *grid) is the truth, x0 its estimate, v in [0, 1] how far the step's variance is from the small one to the
    large one, in the logarithm (Nichol & Dhariwal 2021, eq. 4, 6 and 15).
    """
    small, large = (one.clamp(min=1e-20) for one in reverse_variances(now, after))
    log_small, log_large = expand(small.log(), x), expand(large.log(), x)
    log_variance = torch.lerp(log_small.expand_as(x), log_large.expand_as(x), v)
    distance = expand((now**2 - after**2) / now**2, x) * (x - x0)  # between the two means, in scaled coordinates
    return (log_variance - log_small + (log_small.exp() + distance**2) / log_variance.exp() - 1) / 2


def _open_ends(x: Tensor, inside: Tensor, below: Tensor, above: Tensor, *, low: float, high: float) -> Tensor:
    return torch.where(x < low, below, torch.where(x > high, above, inside))


# --- Matching ---------------------------------------------------------------------------------------------------------


def matching_softmax(logits: Tensor, same: Tensor, here: Tensor) -> Tensor:
    """(B,) cross-entropy of finding a partner among the batch, by rows and by columns, half of each.

    logits (B, B): of row i and column j; same (B, B), symmetric: which of them belong together, the diagonal included;
    here (B,): which take part at all. Of several partners the mean of their cross-entropies (Radford et al. 2021,
    figure 3; Khosla et al. 2020, eq. 2). Scaled so that the mean over those that take part is the mean over all.
    """
    together = same.to(logits.dtype) * (here.unsqueeze(0) & here.unsqueeze(1))
    wanted = together / together.sum(1, keepdim=True).clamp(min=1)  # `same` is symmetric: of columns it is the same
    low = torch.finfo(logits.dtype).min / 4
    rows = logits.masked_fill(~here.unsqueeze(0), low).log_softmax(1)
    columns = logits.T.masked_fill(~here.unsqueeze(0), low).log_softmax(1)
    error = -(wanted * (rows + columns)).sum(1) / 2
    return error * (len(here) / here.sum().clamp(min=1))


def matching_sigmoid(logits: Tensor, same: Tensor, here: Tensor) -> Tensor:
    """(B,) of each row the sum over columns of -ln sigmoid(+-logit), + for partners (Zhai et al. 2023, algorithm 1).

    Arguments and scaling as for `matching_softmax`.
    """
    both = (here.unsqueeze(0) & here.unsqueeze(1)).to(logits.dtype)
    share = same.to(logits.dtype)
    error = share * logsigmoid(logits) + (1 - share) * logsigmoid(-logits)
    return -(error * both).sum(1) * (len(here) / here.sum().clamp(min=1))
