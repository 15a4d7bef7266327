"""Samplers and the likelihood on Gaussians and mixtures, whose denoiser and solutions are known in closed form."""

import math
from itertools import pairwise, product

import pytest
import torch
from scipy.linalg import hadamard

from trilemma.maths import guidance, paths, samplers
from trilemma.maths.likelihood import log_likelihood

torch.set_num_threads(1)
MEAN, DEVIATION = 0.7, 0.5


def denoise(y: torch.Tensor, s: float) -> torch.Tensor:
    """E[x_0 | y] for x_0 ~ N(MEAN, DEVIATION^2)."""
    return (DEVIATION**2 * y + s**2 * MEAN) / (DEVIATION**2 + s**2)


def solution(y: torch.Tensor, start: float, end: float) -> torch.Tensor:
    """Where the probability flow carries y from level `start` to level `end`."""
    return MEAN + (y - MEAN) * math.sqrt((DEVIATION**2 + end**2) / (DEVIATION**2 + start**2))


START = torch.tensor([[-3.0, 1.0, 4.0], [0.2, 6.0, -9.0]], dtype=torch.float64)
NO_NOISE = dict(noise=lambda: torch.zeros_like(START))


# --- Orders -----------------------------------------------------------------------------------------------------------


def smooth(i: torch.Tensor) -> torch.Tensor:
    return (3 ** (1 / 3) + i * (1 - 3 ** (1 / 3))) ** 3


def uniform(i: torch.Tensor) -> torch.Tensor:
    return 3 - 2 * i


def zigzag(i: torch.Tensor) -> torch.Tensor:
    """Every other step is twice as long, however many steps."""
    count = len(i) - 4
    moved = torch.where(torch.arange(len(i)) % 2 == 0, 0.0, 1 / (6 * count))
    moved[3] = moved[-1] = 0  # both ends stay
    return uniform(i + moved)


def measured_order(sampler, shape, *, earlier: str | None, counts=(40, 80, 160)) -> float:
    """Slope of ln error over ln steps; `earlier` says which exact values from before the grid the sampler is given."""
    errors = []
    for count in counts:
        grid = shape(torch.arange(-3, count + 1, dtype=torch.float64) / count)
        levels = grid[3:]
        start, end = levels[0].item(), levels[-1].item()
        options = {}
        if earlier:
            before = [(s, solution(START, start, s)) for s in grid[:3].tolist()]
            values = {"slope": lambda y, s: (y - denoise(y, s)) / s, "estimate": denoise}[earlier]
            options = {"earlier": [(s, values(y, s)) for s, y in before]}
        error = sampler(denoise, START, levels, **options) - solution(START, start, end)
        errors.append(error.abs().max().item())
    return math.log(errors[-2] / errors[-1]) / math.log(counts[-1] / counts[-2])


ORDERS = [
    ("euler", {}, smooth, None, 1),
    ("ddim", {}, smooth, None, 1),
    ("heun", {}, smooth, None, 2),
    ("heun", {}, zigzag, None, 2),
    ("dpm++2m", {}, smooth, None, 2),
    ("dpm++2m", {}, zigzag, "estimate", 2),
    ("dpm++3m", {}, smooth, "estimate", 3),
    ("dpm++3m", {}, zigzag, "estimate", 3),
    ("dpm++3m", {}, smooth, None, 2),  # its first step is Euler's
    *[("adams-bashforth", {"order": k}, shape, "slope", k) for k in (1, 2, 3, 4) for shape in (smooth, zigzag)],
    ("adams-bashforth", {"order": 4}, smooth, None, 2),
    ("ipndm", {}, uniform, "slope", 4),
    ("ipndm", {"order": 3}, uniform, "slope", 3),
    ("ipndm", {}, smooth, "slope", 2),
    ("ipndm", {"order": 2}, smooth, "slope", 2),
    ("ipndm", {}, zigzag, "slope", 1),
]


@pytest.mark.parametrize(("name", "options", "shape", "earlier", "order"), ORDERS)
def test_orders(name, options, shape, earlier, order):
    def sampler(*arguments, **more):
        return samplers.SAMPLERS[name](*arguments, **options, **more)

    counts = (160, 320, 640) if order < 3 else (80, 160, 320)
    assert measured_order(sampler, shape, earlier=earlier, counts=counts) == pytest.approx(order, abs=0.15)


def test_published_3m_code_has_order_two():
    """The authors' third-order update as they wrote it (their D2 lacks a factor 2), to justify that ours differs."""

    def published(denoise, y, sigmas, *, earlier):
        history = [(-math.log(s), clean) for s, clean in earlier]
        for now, after in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
            history.append((-math.log(now), denoise(y, now)))
            (l2, m2), (l1, m1), (l0, m0) = history[-3:]
            h, r0, r1 = -math.log(after) - l0, 0.0, 0.0
            r0, r1 = (l0 - l1) / h, (l1 - l2) / h
            d10, d11 = (m0 - m1) / r0, (m1 - m2) / r1
            d1, d2 = d10 + r0 / (r0 + r1) * (d10 - d11), (d10 - d11) / (r0 + r1)
            phi1 = math.expm1(-h)
            phi2 = phi1 / h + 1
            y = after / now * y - phi1 * m0 + phi2 * d1 - (phi2 / h - 0.5) * d2
        return y

    assert measured_order(published, smooth, earlier="estimate", counts=(80, 160, 320)) == pytest.approx(2, abs=0.15)


def test_first_steps_of_lower_order_agree():
    grid = paths.karras_sigmas(2, low=0.5, high=3.0)[:2]
    first = samplers.euler(denoise, START, grid)
    for name in ("ddim", "dpm++2m", "dpm++3m", "adams-bashforth", "ipndm"):
        assert torch.allclose(samplers.SAMPLERS[name](denoise, START, grid), first, atol=1e-13), name


@pytest.mark.parametrize("name", [name for name in samplers.SAMPLERS if name != "ddpm"])
def test_deterministic_samplers_reach_the_data(name):
    """From EDM's largest level to an exact 0; a tenth of Euler's error is allowed to the others."""
    grid = paths.karras_sigmas(400)
    y = MEAN + 160 * (START - MEAN)
    error = (samplers.SAMPLERS[name](denoise, y, grid) - solution(y, 160.0, 0.0)).abs().max().item()
    assert error < (0.05 if name in ("euler", "ddim") else 0.005)


def test_euler_is_ddim():
    grid = paths.karras_sigmas(9)
    assert torch.allclose(samplers.euler(denoise, START, grid), samplers.ddim(denoise, START, grid), rtol=1e-12)


# --- Stochastic samplers: mean and variance after every reverse step, in the papers' own coordinates ------------------

DESIGN = torch.tensor(hadamard(16), dtype=torch.float64)[1:]  # rows: mean 0, variance 1, exactly uncorrelated


def moments_after_each_step(sampler, levels: torch.Tensor, start: tuple[float, float]) -> list[tuple[float, float]]:
    """(mean, variance) of y at every level: the batch is an exact 15-dimensional standard normal up to two moments."""
    rows = iter(DESIGN[:, :, None])
    seen = []
    last = sampler(
        start[0] + math.sqrt(start[1]) * next(rows),
        levels,
        noise=lambda: next(rows),
        callback=lambda i, y, clean: seen.append(y),
    )
    return [(y.mean().item(), y.var(correction=0).item()) for y in [*seen, last]]


def levels_and_alpha_bar(count: int) -> tuple[torch.Tensor, list[float]]:
    beta = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - beta, 0)
    chosen = [round(1000 * (count - i) / count) for i in range(count)]
    return paths.ddpm_sigmas(count), [*(alpha_bar[k - 1].item() for k in chosen), 1.0]


def gain_and_offset(alpha_bar: float, deviation: float) -> tuple[float, float]:
    """E[x_0 | x_t] = gain x_t + offset for x_0 ~ N(MEAN, deviation^2), x_t = sqrt(alpha_bar) x_0 + noise."""
    gain = math.sqrt(alpha_bar) * deviation**2 / (alpha_bar * deviation**2 + 1 - alpha_bar)
    return gain, MEAN * (1 - gain * math.sqrt(alpha_bar))


def compare(moments, expected, alpha_bars):
    for (mean, variance), (mean_t, variance_t), alpha_bar in zip(moments, expected, alpha_bars, strict=True):
        assert math.sqrt(alpha_bar) * mean == pytest.approx(mean_t, rel=1e-9)
        assert alpha_bar * variance == pytest.approx(variance_t, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("variance", ["small", "large", "learned"])
def test_ddpm_moments_after_each_step(variance):
    levels, alpha_bars = levels_and_alpha_bar(12)
    fraction = 0.3

    def answer(y, s):
        clean = denoise(y, s)
        return (clean, torch.full_like(y, fraction)) if variance == "learned" else clean

    # Ho et al. 2020, equations 6, 7 and algorithm 2, on x_T ~ N(0, 1).
    expected = [(0.0, 1.0)]
    for now, before in pairwise(alpha_bars):
        beta = 1 - now / before
        gain, offset = gain_and_offset(now, DEVIATION)
        on_x0 = math.sqrt(before) * beta / (1 - now)
        on_xt = math.sqrt(1 - beta) * (1 - before) / (1 - now)
        posterior = (1 - before) / (1 - now) * beta
        if before == 1:
            added = 0.0
        elif variance == "learned":  # Nichol & Dhariwal 2021, equation 15
            added = math.exp(fraction * math.log(beta) + (1 - fraction) * math.log(posterior))
        else:
            added = posterior if variance == "small" else beta
        mean, spread = expected[-1]
        expected.append((on_x0 * (gain * mean + offset) + on_xt * mean, (on_x0 * gain + on_xt) ** 2 * spread + added))

    def sampler(y, levels, **options):
        return samplers.ancestral(answer, y, levels, variance=variance, **options)

    compare(moments_after_each_step(sampler, levels, (0.0, 1 / alpha_bars[0])), expected, alpha_bars)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("deviation", [DEVIATION, 0.0])
def test_ddim_moments_after_each_step(eta, deviation):
    levels, alpha_bars = levels_and_alpha_bar(12)

    def exact(y, s):
        return (deviation**2 * y + s**2 * MEAN) / (deviation**2 + s**2)

    # Song et al. 2021, equations 12 and 16, from the true marginal at the first level.
    first = alpha_bars[0]
    expected = [(math.sqrt(first) * MEAN, first * deviation**2 + 1 - first)]
    for now, before in pairwise(alpha_bars):
        sigma = eta * math.sqrt((1 - before) / (1 - now)) * math.sqrt(1 - now / before)
        gain, offset = gain_and_offset(now, deviation)
        direction = math.sqrt(1 - before - sigma**2)
        on_x0 = math.sqrt(before) - direction * math.sqrt(now / (1 - now))
        on_xt = direction / math.sqrt(1 - now)
        mean, spread = expected[-1]
        expected.append(
            (on_x0 * (gain * mean + offset) + on_xt * mean, (on_x0 * gain + on_xt) ** 2 * spread + sigma**2)
        )

    def sampler(y, levels, **options):
        return samplers.ddim(exact, y, levels, eta=eta, **options)

    moments = moments_after_each_step(sampler, levels, (MEAN, deviation**2 + (1 - first) / first))
    compare(moments, expected, alpha_bars)
    if deviation == 0:  # with one data point every eta keeps the forward process' marginals
        assert [spread for _, spread in expected] == pytest.approx([1 - a for a in alpha_bars], abs=1e-12)
        assert [spread for _, spread in moments] == pytest.approx((levels**2).tolist(), rel=1e-9, abs=1e-12)


def test_ddim_with_eta_one_is_ddpm():
    levels = paths.ddpm_sigmas(10)
    by_ddim = moments_after_each_step(lambda *a, **k: samplers.ddim(denoise, *a, eta=1.0, **k), levels, (1.0, 4.0))
    by_ddpm = moments_after_each_step(lambda *a, **k: samplers.ancestral(denoise, *a, **k), levels, (1.0, 4.0))
    for one, other in zip(by_ddim, by_ddpm, strict=True):
        assert one == pytest.approx(other, rel=1e-9)


def test_learned_variance_ends():
    levels = paths.ddpm_sigmas(5)
    for fraction, variance in ((0.0, "small"), (1.0, "large")):

        def with_variance(y, s, fraction=fraction):
            return denoise(y, s), torch.full_like(y, fraction)

        noise = dict(noise=lambda: torch.ones_like(START))
        learned = samplers.ancestral(with_variance, START, levels, variance="learned", **noise)
        fixed = samplers.ancestral(denoise, START, levels, variance=variance, **noise)
        assert torch.allclose(learned, fixed, rtol=1e-9)


def test_churn_follows_algorithm_two():
    now, after, churn, scale = 2.0, 1.0, 0.25, 1.003
    levels = torch.tensor([now, after], dtype=torch.float64)

    def moments(**options):
        def sampler(y, levels, **more):
            return samplers.heun(denoise, y, levels, churn=churn, churn_scale=scale, **more, **options)

        return moments_after_each_step(sampler, levels, (3.0, 5.0))[-1]

    raised = now * (1 + churn)

    def heun_map(y, start):  # written out once more, on numbers
        slope = (y - (0.25 * y + start**2 * MEAN) / (0.25 + start**2)) / start
        ahead = y + (after - start) * slope
        slope_ahead = (ahead - (0.25 * ahead + after**2 * MEAN) / (0.25 + after**2)) / after
        return y + (after - start) * (slope + slope_ahead) / 2

    gain = heun_map(1.0, raised) - heun_map(0.0, raised)
    variance = gain**2 * (5.0 + scale**2 * (raised**2 - now**2))
    assert moments() == pytest.approx((heun_map(3.0, raised), variance))
    calm = (heun_map(3.0, now), (heun_map(1.0, now) - heun_map(0.0, now)) ** 2 * 5.0)
    assert moments(churn_interval=(2.5, 9.0)) == pytest.approx(calm)
    # The share per step is bounded by sqrt(2) - 1: a large churn at most doubles the noise's variance.
    seen = []
    samplers.heun(
        denoise,
        START,
        levels,
        churn=50.0,
        noise=lambda: torch.ones_like(START),
        callback=lambda i, y, d: seen.append(y),
    )
    assert torch.allclose(seen[0], START + 2.0)


# --- Grids, calls, guidance, encoding ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_calls_callbacks_and_dtype(name, steps):
    counter, seen = samplers.Counter(), []
    options = {"noise": lambda: torch.zeros(2, 3)} if name == "ddpm" else {}
    y, grid = START.float(), paths.karras_sigmas(steps)
    out = samplers.SAMPLERS[name](
        counter.wrap(denoise), y, grid, callback=lambda i, y, clean: seen.append((i, y, clean)), **options
    )
    assert counter.calls == samplers.calls(name, steps)
    assert out.dtype == torch.float32 and torch.isfinite(out).all() and out.shape == y.shape
    assert [i for i, _, _ in seen] == list(range(steps)) and torch.equal(seen[0][1], y)
    for i, y_i, clean in seen:
        assert torch.equal(clean, denoise(y_i, grid[i].item()))
    if steps == 1:
        assert torch.allclose(out, denoise(y, 160.0), atol=1e-4)
    # A grid that ends at a positive level is served too, and ends elsewhere.
    ending = samplers.SAMPLERS[name](denoise, y, torch.tensor([3.0, 1.0, 0.5]), **options)
    assert torch.isfinite(ending).all() and (ending - solution(y, 3.0, 0.5)).abs().max() < 2


@pytest.mark.parametrize("name", samplers.SAMPLERS)
@pytest.mark.parametrize(
    "grid", [[1.0], [1.0, 1.0, 0.0], [1.0, 2.0, 0.5], [0.0, 1.0], [1.0, -1.0], [math.inf, 1.0], [[2.0, 1.0]]]
)
def test_bad_grids_are_refused(name, grid):
    options = NO_NOISE if name == "ddpm" else {}
    with pytest.raises(ValueError, match="sigmas"):
        samplers.SAMPLERS[name](denoise, START, torch.tensor(grid), **options)


def test_bad_settings_are_refused():
    grid, rising = paths.karras_sigmas(3), torch.tensor([0.1, 1.0])
    for wrong, message in [
        (lambda: samplers.ancestral(denoise, START, grid, variance="huge", **NO_NOISE), "huge"),
        (lambda: samplers.ancestral(denoise, START, grid, variance="learned", **NO_NOISE), "x_0, v"),
        (lambda: samplers.ancestral(denoise, START, grid), "noise="),
        (lambda: samplers.ancestral(denoise, START, rising, **NO_NOISE), "fall"),
        (lambda: samplers.ddim(denoise, START, grid, eta=0.5), "noise="),
        (lambda: samplers.ddim(denoise, START, rising, eta=0.5, **NO_NOISE), "fall"),
        (lambda: samplers.heun(denoise, START, grid, churn=1.0), "noise="),
        (lambda: samplers.heun(denoise, START, rising, churn=1.0, **NO_NOISE), "fall"),
        (lambda: samplers.dpm_solver_plus_plus(denoise, START, grid, order=4), "order=4"),
        (lambda: samplers.adams_bashforth(denoise, START, grid, order=5), "order=5"),
        (lambda: samplers.calls("unipc", 5), "unipc"),
        (lambda: log_likelihood(denoise, START, grid, trace="guess"), "guess"),
        (lambda: log_likelihood(denoise, START, grid, trace="hutchinson"), "probe"),
        (lambda: log_likelihood(denoise, START, grid[-2:]), "two positive"),
    ]:
        with pytest.raises(ValueError, match=message):
            wrong()


def test_guidance_and_its_interval():
    def other(y, s):
        return 0.5 * denoise(y, s) - 1

    levels = [4.0, 2.0, 1.0, 0.5]
    wrapped = guidance.guided(denoise, other, weight=3.0, interval=(0.5, 2.0))
    for s in levels:
        plain, blank = denoise(START, s), other(START, s)
        wanted = blank + 3 * (plain - blank) if s in (2.0, 1.0) else plain  # the low end is out, the high end in
        assert torch.allclose(wrapped(START, s), wanted), s
    grid = torch.tensor([*levels, 0.0], dtype=torch.float64)
    for weight, interval, expected in [(3.0, (0.5, 2.0), 6), (3.0, (0.0, math.inf), 8), (1.0, (0.0, math.inf), 4)]:
        counter = samplers.Counter()
        both = guidance.guided(counter.wrap(denoise), counter.wrap(other), weight=weight, interval=interval)
        samplers.euler(both, START, grid)
        assert counter.calls == expected
        for name in ("euler", "heun", "dpm++2m") if weight != 1 else ():  # what is predicted is what is counted
            counter = samplers.Counter()
            both = guidance.guided(counter.wrap(denoise), counter.wrap(other), weight=weight, interval=interval)
            samplers.SAMPLERS[name](both, START, grid)
            assert counter.calls == guidance.calls(name, grid, interval), name
    zero = guidance.guided(denoise, other, weight=0.0)
    assert torch.allclose(zero(START, 1.0), other(START, 1.0))
    # A learned variance goes through, whatever the guide returns.
    v = torch.full_like(START, 0.25)
    for guide in (other, lambda y, s: (other(y, s), -v)):
        clean, fraction = guidance.guided(lambda y, s: (denoise(y, s), v), guide, weight=3.0)(START, 1.0)
        assert torch.allclose(clean, 3 * denoise(START, 1.0) - 2 * other(START, 1.0)) and torch.equal(fraction, v)


@pytest.mark.parametrize("name", ["euler", "heun", "ddim", "dpm++2m", "adams-bashforth", "ipndm"])
def test_rising_grids_encode(name):
    grid = paths.karras_sigmas(300, low=0.05, high=10.0)[:-1].flip(0)
    code = samplers.SAMPLERS[name](denoise, START, grid)
    wanted = solution(START, 0.05, 10.0)
    assert ((code - wanted).abs() / (wanted - MEAN).abs()).max() < (0.06 if name in ("euler", "ddim") else 0.002)


def levels(count, *, low, high):
    return torch.cat([torch.logspace(math.log10(high), math.log10(low), count, dtype=torch.float64), torch.zeros(1)])


# --- Likelihood -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(4, 2), (4, 1, 3), (4, 2, 1, 2)])
def test_likelihood_of_a_gaussian(shape):
    """Every coordinate has its own deviation, so that a mixed-up Jacobian shows."""
    size = math.prod(shape[1:])
    variance = torch.linspace(0.3, 1.7, size, dtype=torch.float64).reshape(shape[1:])
    x = torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * variance.sqrt()

    def exact(y, s):
        return variance * y / (variance + s**2)

    with torch.no_grad():  # callers need not remember to turn gradients on
        ours = log_likelihood(exact, x, paths.karras_sigmas(40))
    truth = torch.distributions.Normal(0.0, variance.sqrt()).log_prob(x).reshape(4, -1).sum(1)
    assert ours.shape == (4,) and not ours.requires_grad
    assert (ours - truth).abs().max() < 0.005


def test_likelihood_ends_in_the_right_gaussian():
    """With unit variance N(0, s^2 + 1) is exact at any largest level, and the density is that at the smallest level."""
    x = torch.tensor([[0.3, -1.0], [2.0, 0.5]], dtype=torch.float64)
    ours = log_likelihood(lambda y, s: y / (1 + s**2), x, levels(41, low=0.1, high=3.0))
    truth = torch.distributions.Normal(0.0, math.sqrt(1.01)).log_prob(x).sum(1)
    assert torch.allclose(ours, torch.tensor(truth.tolist(), dtype=torch.float64), atol=1e-5)


def eight_gaussians(deviation: float = 0.15):
    angles = torch.arange(8, dtype=torch.float64) * math.pi / 4
    radius = math.sqrt(2 * (1 - deviation**2))  # unit variance in each coordinate
    centres = radius * torch.stack([angles.cos(), angles.sin()], 1)

    def log_density(x, s=0.0):
        variance = deviation**2 + s**2
        squared = (x[:, None] - centres).square().sum(2)
        return torch.logsumexp(-squared / (2 * variance), 1) - math.log(8 * 2 * math.pi * variance)

    def exact(y, s):
        variance = deviation**2 + s**2
        share = torch.softmax(-(y[:, None] - centres).square().sum(2) / (2 * variance), 1)
        return (deviation**2 * y + s**2 * share @ centres) / variance

    return centres, log_density, exact


def test_likelihood_of_eight_gaussians():
    centres, log_density, exact = eight_gaussians()
    generator = torch.Generator().manual_seed(0)
    typical = centres + 0.15 * torch.randn(8, 2, dtype=torch.float64, generator=generator)
    x = torch.cat([typical, (centres[:1] + centres[1:2]) / 2, torch.tensor([[1.9, 0.1]], dtype=torch.float64)])
    ours = log_likelihood(exact, x, paths.karras_sigmas(50))
    assert (ours - log_density(x)).abs().max() < 0.02


def test_likelihood_is_integrated_with_order_four():
    centres, _, exact = eight_gaussians()
    x = centres + torch.linspace(-0.3, 0.2, 16, dtype=torch.float64).reshape(8, 2)
    coarse, middle, fine = (log_likelihood(exact, x, levels(n + 1, low=0.05, high=20.0)) for n in (32, 64, 192))
    order = math.log2(((coarse - fine).abs().max() / (middle - fine).abs().max()).item())
    assert order == pytest.approx(4, abs=0.3)


def test_hutchinson_probes_average_to_the_trace():
    """In two dimensions the four sign vectors are all there are: their mean is the exact trace."""
    centres, _, exact = eight_gaussians()
    x, grid = centres[:3] + 0.1, paths.karras_sigmas(20)
    signs = [torch.tensor(pair, dtype=torch.float64).expand(3, 2) for pair in product((-1.0, 1.0), repeat=2)]
    each = [log_likelihood(exact, x, grid, trace="hutchinson", probe=sign) for sign in signs]
    assert torch.allclose(torch.stack(each).mean(0), log_likelihood(exact, x, grid), atol=1e-10)
    assert (each[0] - each[1]).abs().max() > 1e-3  # one probe alone is an estimate
