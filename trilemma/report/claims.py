"""What textbooks say about autoencoders, GANs and diffusion, put to the test on these data.

Each claim has a sentence, the rows that it needs, a test with a threshold, and a function that decides it from
results.json: it holds, does not hold, or cannot be told, with the figures. "More" and "less" mean a difference that one
could rely on (rule 2 of `advise.py`), unless the test names a number. `docs/claims.md` is this table.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from trilemma.report.evidence import (
    CLEARLY,
    FAMILIES,
    MORE,
    SEEDS,
    THREE,
    Evidence,
    Finding,
    Missing,
    both,
    faster,
    more,
    most,
    said,
    sign,
    verdict,
)
from trilemma.report.summary import ENOUGH_SEEDS, Figure, Summary, differs, finite, joined, mean, number

MUCH = 2.0  # times as far
CHANCE = 0.05 + 1e-9  # of a test that decides about stability; three of three against none is just that
SHARE = 0.9  # of an improvement, of what real data have
PLAUSIBLE = 0.8  # of the plausibility of the ends, half-way
TOUCHY, CALM = 1.5, 1.2  # times as bad at the worst of the other settings
MINIMAX, NON_SATURATING = "gan, minimax", "gan, non-saturating"
HYBRID = "vae, with a critic"
EXTRA, TOUCHES = "--claims", "--sensitivity"
PIXELS, WITHOUT_KL, NOISY = "vae, pixels only", "vae, without KL", "autoencoder, trained on noisy input"


@dataclass(frozen=True)
class Claim:
    key: str
    sentence: str  # as it is said
    test: str  # what is compared, and the threshold
    needs: str  # what must be in the comparison
    decide: Callable[[Evidence], Finding]


# --- stability -------------------------------------------------------------------------------------------------------


def _ended(seen: Evidence, name: str) -> tuple[int, int, list[float], str]:
    """(trainings with trouble, trainings, logarithms of their headline figures, all in words)."""
    one = seen.failed.get(name) or seen.one(name)
    rows = [row for row in one.rows if row.get("status") in ("ok", "failed")]
    if len(rows) < ENOUGH_SEEDS:
        raise Missing(f"stability needs {ENOUGH_SEEDS} seeds of each model", SEEDS)
    bad = [row for row in rows if row["status"] == "failed" or (row.get("stability") or {}).get("events")]
    figures = [float(((row.get("metrics") or {}).get(seen.headline) or {}).get("value") or 0) for row in one.done]
    logs = [math.log(value) for value in figures if value > 0]
    spread = f"±{statistics.stdev(logs):.0%}" if len(logs) > 1 else "no spread"
    return len(bad), len(rows), logs, f"{name} {spread}, {len(bad)} of {len(rows)} with trouble"


def less_stable(one: str, *others: str) -> Callable[[Evidence], Finding]:
    """The claim that one gets into trouble more often than each other, or that its figures spread farther over seeds.

    Trouble by Fisher's exact test, spread by the F test of the logarithms' variances, both at 5 %, one side each.
    """

    def decide(seen: Evidence) -> Finding:
        from scipy import stats

        bad, count, logs, words = _ended(seen, one)
        signs, said_of = [], [words]
        for other in others:
            other_bad, other_count, other_logs, other_words = _ended(seen, other)
            table = [[bad, count - bad], [other_bad, other_count - other_bad]]
            sides = [stats.fisher_exact(table, alternative=side).pvalue <= CHANCE for side in ("greater", "less")]
            if not any(sides) and min(len(logs), len(other_logs)) >= ENOUGH_SEEDS:
                freedom = (len(logs) - 1, len(other_logs) - 1)
                ratio = statistics.variance(logs) / max(statistics.variance(other_logs), 1e-300)
                sides = [stats.f.sf(ratio, *freedom) <= CHANCE, stats.f.cdf(ratio, *freedom) <= CHANCE]
            signs.append(1 if sides[0] else -1 if sides[1] else 0)
            said_of.append(other_words)
        return Finding(verdict(signs), "; ".join(said_of))

    return decide


def _not_copies(seen: Evidence) -> Finding:
    verdicts = {one.name: one.verdict for one in seen.models}
    copies = [name for name, word in verdicts.items() if word == "copies"]
    unsure = [name for name, word in verdicts.items() if word != "none"]
    if copies:
        return Finding("does not hold", f"copies: {', '.join(copies)}")
    if unsure or not verdicts:
        return Finding("cannot be told", f"cannot be told for {', '.join(unsure) or 'any'}")
    return Finding("holds", f"none of {len(verdicts)} model{'s' * (len(verdicts) > 1)}")


def _no_collapse(seen: Evidence) -> Finding:
    one = seen.one("diffusion")
    spread = seen.figure("diffusion", "diversity")
    trainings = f"training{'s' * (len(one.done) > 1)}"
    words = f"spread {number(spread.value)} of real data's, {one.collapses} of {len(one.done)} {trainings} collapsed"
    missing = False
    if "classes" in one.figures and seen.floor is not None and "classes" in seen.floor.figures:
        found, there = one.figures["classes"].value, seen.floor.figures["classes"].value
        words, missing = f"{words}, {number(found)} of {number(there)} classes", found <= there - 1
    if one.collapses or missing or spread.value < 0.7:
        return Finding("does not hold", words)
    return Finding("holds" if spread.value >= SHARE else "cannot be told", words)


# --- codes, noise, steps, guidance -----------------------------------------------------------------------------------


def interpolates(name: str) -> Callable[[Evidence], Finding]:
    """Half-way points nearly as plausible as the ends, and more so than the plain mean of the two ends."""

    def decide(seen: Evidence) -> Finding:
        middle, mixed = seen.figure(name, "midpoints"), seen.figure(name, "mixed_midpoints")
        words = f"half-way {number(middle.value)} of the ends' plausibility, plain mean {number(mixed.value)}"
        if middle.low is None or middle.high is None:
            return Finding("cannot be told", words)
        against = middle.high < PLAUSIBLE or sign(middle, mixed) < 0
        for_it = middle.low >= PLAUSIBLE and sign(middle, mixed) > 0
        return Finding("does not hold" if against else "holds" if for_it else "cannot be told", words)

    return decide


def _ddim(seen: Evidence) -> Finding:
    rungs = [rung for row in seen.one("diffusion:ddpm").done for rung in row.get("ladder") or []]
    if not rungs:
        raise Missing("the quality over steps was not measured", EXTRA)
    table: dict[str, dict[int, float]] = {"ddpm": {}, "ddim": {}}
    for sampler, kept in table.items():
        for steps in sorted({rung["steps"] for rung in rungs}):
            values = [
                rung["metrics"]["frechet"]["value"]
                for rung in rungs
                if rung["sampler"] == sampler and rung["steps"] == steps and finite(rung["metrics"]["frechet"]["value"])
            ]
            if values:
                kept[steps] = mean(values)
    if not table["ddpm"] or not table["ddim"]:
        raise Missing("the quality over steps was not measured for both samplers")
    most_steps = max(table["ddpm"])
    target = 1.1 * table["ddpm"][most_steps]
    need = {
        name: min((n for n, value in kept.items() if value <= target), default=None) for name, kept in table.items()
    }
    words = f"to come within 10 % of DDPM's {number(target / 1.1)} at {most_steps} steps: " + ", ".join(
        f"{name.upper()} {steps if steps else 'more'}" for name, steps in need.items()
    )
    if need["ddim"] is None:
        return Finding("does not hold", words)
    assert need["ddpm"] is not None
    return Finding("holds" if need["ddim"] < need["ddpm"] else "does not hold", words)


def _guidance(seen: Evidence) -> Finding:
    points: dict[float, dict[str, dict[Any, dict[str, Any]]]] = {}
    for row in seen.one("diffusion").done:
        for point in row.get("guided") or []:
            for name, entry in point["metrics"].items():
                if finite(entry.get("value")):
                    points.setdefault(point["guidance"], {}).setdefault(name, {})[row.get("seed")] = entry
    if len(points) < 2:
        told = (seen.results.get("data") or {}).get("labels") or "attributes" in seen.one("diffusion").figures
        raise Missing("the quality over guidance was not measured", EXTRA) if told else Missing("no labels in the data")
    weak, strong = min(points), max(points)
    signs, words = [], []
    for name, way in (("precision", 1), ("recall", -1)):
        if name not in points[weak] or name not in points[strong]:
            raise Missing(f"{name} was not measured")
        low, high = joined(points[weak][name]), joined(points[strong][name])
        signs.append(way * sign(high, low))
        words.append(f"{name} {number(low.value)} → {number(high.value)}")
    return Finding(verdict(signs), f"guidance {weak:g} → {strong:g}: {', '.join(words)}")


def _repeats(seen: Evidence) -> Finding:
    own = seen.figure("vae", "vendi")
    if seen.floor is None or "vendi" not in seen.floor.figures:
        raise Missing("the variety of real data was not measured")
    real = seen.floor.figures["vendi"]
    share = own.value / real.value
    words = f"{number(own.value)} different samples, real data {number(real.value)}"
    if share < SHARE and sign(own, real) < 0:
        return Finding("holds", words)
    return Finding("does not hold" if share >= SHARE else "cannot be told", words)


def _posterior(seen: Evidence) -> Finding:
    figure = seen.figure("vae", "active_units")
    total = float(figure.unit.removeprefix("of ") or 0)
    share = figure.value / max(total, 1)
    words = f"{number(figure.value)} of {total:g} dimensions used"
    return Finding("holds" if share < 0.5 else "does not hold" if share >= SHARE else "cannot be told", words)


def _critic(seen: Evidence) -> Finding:
    from scipy import stats

    # One point for each setting: seeds of one are no independent evidence. Other data are another question.
    pairs = []
    for one in seen.by_name.values():
        if one.family != "gan" or one.rows[0].get("study") in ("drift", "subsample"):
            continue
        if {"critic", seen.headline} <= set(one.figures):
            pairs.append((abs(one.figures["critic"].value - 0.5), one.figures[seen.headline].value))
    if len(pairs) < 6:
        raise Missing("six kinds of GAN with a critic", EXTRA, TOUCHES)
    correlation, chance = stats.spearmanr([a for a, _ in pairs], [b for _, b in pairs])
    best = min(b for _, b in pairs)
    fooled = [b for a, b in pairs if a < 0.05]
    words = f"{len(pairs)} GANs: rank correlation {correlation:+.2f} (p {chance:.2g}) of how well the critic tells "
    words += f"and how far samples are; {len(fooled)} with a critic at chance"
    if any(b > MUCH * best for b in fooled):
        return Finding("does not hold", f"{words}, one of them {max(fooled) / best:.1f} times as far as the best")
    return Finding("holds" if correlation > 0 and chance < 0.05 else "cannot be told", words)


# --- budgets, settings, data -----------------------------------------------------------------------------------------


def first_to(one: str, *others: str) -> Callable[[Evidence], Finding]:
    """The claim that one makes 90 % of its own improvement in less of the budget than others, in every seed."""

    def decide(seen: Evidence) -> Finding:
        shares = {name: _time_to(seen.one(name)) for name in (one, *others)}
        seeds = set.intersection(*(set(found) for found in shares.values()))
        if min(len(seen.one(name).done) for name in shares) < ENOUGH_SEEDS:
            raise Missing(f"the quality while training of {ENOUGH_SEEDS} seeds of each", SEEDS)
        if len(seeds) < ENOUGH_SEEDS:
            told = ", ".join(f"{name} {len(found)}" for name, found in shares.items())
            raise Missing(f"seeds that got better over three looks while training are too few: {told}", MORE)
        signs = []
        for other in others:
            ahead = [shares[one][seed] < shares[other][seed] for seed in seeds]
            signs.append(1 if all(ahead) else -1 if not any(ahead) else 0)
        means = [f"{name} after {mean([found[s] for s in seeds]):.0%}" for name, found in shares.items()]
        return Finding(verdict(signs), f"{', '.join(means)} of the training")

    return decide


def _time_to(one: Summary) -> dict[Any, float]:
    """By seed: share of the training at which 90 % of the improvement from the first to the last preview is made."""
    found = {}
    for row in one.done:
        points = [(p.get("seen"), p.get("kernel@random")) for p in row.get("curve") or []]
        known = [(float(a), float(b)) for a, b in points if finite(a) and finite(b)]
        if len(known) < 3 or known[0][1] <= known[-1][1]:
            continue
        goal = known[0][1] - SHARE * (known[0][1] - known[-1][1])
        for (a, before), (b, after) in pairwise(known):
            if after <= goal:
                at = a + (b - a) * (before - goal) / (before - after)
                found[row.get("seed")] = at / known[-1][0]
                break
    return found


def _early(seen: Evidence) -> Finding:
    left, right = (seen.at(name, 0.125, "frechet") for name in (NON_SATURATING, MINIMAX))
    return Finding(
        verdict([sign(left, right, better=True)]),
        f"at 1/8 of the budget: {said('non-saturating', left)}, {said('minimax', right)}",
    )


def _late(seen: Evidence) -> Finding:
    """Diffusion behind at an eighth of the budget and ahead at its end."""
    signs, words = [], []
    for share, way in ((0.125, -1), (1.0, 1)):
        own = seen.at("diffusion", share, seen.headline)
        rest = {}
        for name in ("vae", "gan"):
            rest[name] = seen.at(name, share, seen.headline)
        best = min(rest, key=lambda name: rest[name].badness)
        signs.append(way * sign(own, rest[best], better=True))
        words.append(f"at {share:g} of the budget {said('diffusion', own)}, {said(best, rest[best])}")
    return Finding(verdict(signs), "; ".join(words))


def _touchy(seen: Evidence) -> Finding:
    base = seen.figure("vae", seen.headline)
    times: dict[str, float] = {}
    for one in [*seen.by_name.values(), *seen.failed.values()]:
        row = one.rows[0]
        if row.get("study") == "sensitivity" and row.get("of") == "vae":
            figure = one.figures.get(seen.headline)
            usual = base.seeds.get(row.get("seed"), base.value)
            times[row["what"]] = figure.value / usual if figure else math.inf
    if len(times) < 4:
        raise Missing("other learning rates and batches", TOUCHES)
    worst = max(times, key=lambda what: times[what])
    seeds = list(base.seeds.values())
    words = f"at worst ({worst}) {times[worst]:.1f} times as far; seeds alone up to {max(seeds) / min(seeds):.1f} times"
    if times[worst] > max(TOUCHY, max(seeds) / min(seeds)):
        return Finding("holds", words)
    return Finding("does not hold" if times[worst] < CALM else "cannot be told", words)


def _hungry(seen: Evidence) -> Finding:
    """Which family a tenth of the data hurts most: logarithms of quotients of distances, seed by seed."""
    hurt: dict[str, Figure] = {}
    for name in FAMILIES:
        little = seen.by_name.get(f"{name}, 10% of the data")
        if little is None or seen.headline not in little.figures or name not in seen.by_name:
            continue
        whole = seen.figure(name, seen.headline)
        pairs = {seed: (value, whole.seeds.get(seed)) for seed, value in little.figures[seen.headline].seeds.items()}
        logs = {seed: math.log(few / all_) for seed, (few, all_) in pairs.items() if all_ and few > 0}
        if logs:
            hurt[name] = Figure(mean(list(logs.values())), None, None, "lower", seeds=logs)
    if "gan" not in hurt or len(hurt) < 2:
        raise Missing("trainings on a tenth of the data", EXTRA, *([] if "gan" in seen.by_name else ["gan"]))
    signs = [sign(hurt["gan"], figure) for name, figure in hurt.items() if name != "gan"]
    words = ", ".join(f"{name} {math.exp(figure.value):.1f}" for name, figure in hurt.items())
    return Finding(verdict(signs), f"times as far with a tenth of the data: {words}")


def _rule(seen: Evidence) -> Finding:
    """Quality and diversity: is the rule's family ahead of all others, reliably? Both: has it the best sum of ranks?"""
    pool = [one for one in seen.models if seen.headline in one.figures and one.diverse() is not None]
    if not {"vae", "gan", "diffusion"} <= {one.family for one in pool}:
        known = {one.family for one in seen.models}
        raise Missing("VAE, GAN and diffusion in one comparison", *(f for f in FAMILIES[1:] if f not in known))
    quality = sorted(pool, key=lambda one: one.figures[seen.headline].badness)
    variety = sorted(pool, key=lambda one: -(one.diverse() or 0.0))
    sums = {one.name: quality.index(one) + variety.index(one) for one in pool}
    ahead = {one.family for one in pool if sums[one.name] == min(sums.values())}
    orders = {"quality": ("gan", quality, ("headline",)), "diversity": ("vae", variety, ("recall", "coverage"))}
    signs, words = [], []
    for asked, (family, order, metrics) in orders.items():
        own = next(one for one in order if one.family == family)
        rival = next(one for one in order if one.family != family)
        names = [seen.headline if metric == "headline" else metric for metric in metrics]
        told = any(differs(own, rival, name) for name in names)
        signs.append(0 if not told else 1 if order.index(own) < order.index(rival) else -1)
        other = rival if own is order[0] else own
        words.append(f"{asked}: {order[0].family}" + ("" if told else f" (cannot be told from {other.family})"))
    signs.append(-1 if "diffusion" not in ahead else 1 if len(ahead) == 1 else 0)
    words.append(f"both: {' or '.join(sorted(ahead))}")
    return Finding(verdict(signs), f"measured {', '.join(words)}")


def _real_time(seen: Evidence) -> Finding:
    seconds = seen.speed("gan", "first_sample_seconds")
    return Finding("holds" if seconds < 1 / 30 else "does not hold", f"first sample after {number(seconds * 1000)} ms")


BASE = "the families of a comparison"
LABELS = "labelled data"

CLAIMS = (
    Claim("sharper", "GAN samples are sharper than VAE samples.", "sharpness: GAN above VAE", BASE,
          more("sharpness", "gan", "vae")),
    Claim("modes", "A VAE covers more of the data's variety than a GAN.", "recall: VAE above GAN", BASE,
          more("recall", "vae", "gan")),
    Claim("trilemma", "Diffusion has the best fidelity and the best diversity (Xiao et al. 2022).",
          "headline distance best and recall highest of all families", BASE,
          both(most("headline", "diffusion", better=True), most("recall", "diffusion"))),
    Claim("slowest", "Diffusion is the slowest to sample.", f"samples a second: fewer than 1/{CLEARLY} of every other "
          "family's", BASE, faster("samples_per_second", "diffusion", slower=True)),
    Claim("real-time", "A GAN samples in real time.", "first sample in under 1/30 s", BASE, _real_time),
    Claim("ddim", "DDIM needs fewer steps than DDPM for equal quality (Song et al. 2021).",
          "fewest of 4, 8, 16, 32, 64 steps within 10 % of DDPM's distance at 64", f"diffusion:ddpm, {EXTRA}", _ddim),
    Claim("unstable", "GAN training is less stable than that of VAE and diffusion.",
          "more trainings with trouble (Fisher's test), otherwise a larger spread of the headline (F test)", THREE,
          less_stable("gan", "vae", "diffusion")),
    Claim("interpolates-vae", "The latent space of a VAE interpolates meaningfully.",
          f"half-way between codes: at least {PLAUSIBLE} of the ends' plausibility, and above the mean of two samples",
          BASE, interpolates("vae")),
    Claim("interpolates-gan", "The latent space of a GAN interpolates meaningfully.",
          f"half-way between codes: at least {PLAUSIBLE} of the ends' plausibility, and above the mean of two samples",
          BASE, interpolates("gan")),
    Claim("first", "A VAE is the first to make 90 % of its own final improvement.",
          "share of the training, by previews: below GAN's and diffusion's in every seed", THREE,
          first_to("vae", "gan", "diffusion")),
    Claim("saturates", "The non-saturating loss beats minimax early in training (Goodfellow et al. 2014).",
          "distance of trainings of 1/8 of the budget, without a penalty: non-saturating below minimax", EXTRA, _early),
    Claim("wasserstein", "Wasserstein GANs train more stably than the original game (Arjovsky et al. 2017).",
          "minimax without a penalty: more trainings with trouble, otherwise a larger spread, by the same tests",
          f"gan:wasserstein, {THREE}, {EXTRA}", less_stable(MINIMAX, "gan:wasserstein")),
    Claim("touchy", "A VAE is sensitive to its hyper-parameters.",
          f"distance at rate × 1/3, × 3, batch × 1/2, × 2: at worst more than {TOUCHY} times the base's and than "
          f"seeds alone (below {CALM} times: it is not)", TOUCHES, _touchy),
    Claim("denoising", "An autoencoder trained on noisy input removes noise better than a plain one (Vincent et al. "
          "2008).", "noise left: denoising below plain", EXTRA, more("denoising", NOISY, "autoencoder", better=True)),
    Claim("smooth", "The KL term makes the latent space smooth.", "path length: VAE below the same VAE with beta 0",
          EXTRA, more("path_length", "vae", WITHOUT_KL, better=True)),
    Claim("no-collapse", "Diffusion does not collapse.", f"no collapse in any training, spread at least {SHARE} of "
          "real data's (below 0.7: it did), every class there", BASE, _no_collapse),
    Claim("control", "Control is best in diffusion.", "as asked: diffusion above every other family", LABELS,
          most("control", "diffusion")),
    Claim("control-vae-gan", "A VAE is easier to control than a GAN (other textbooks: the reverse).",
          "as asked: VAE above GAN", LABELS, more("control", "vae", "gan")),
    Claim("blur", "Pixel-wise losses cause blur.", "sharpness: VAE above the same VAE with a loss of pixels only",
          EXTRA, more("sharpness", "vae", PIXELS)),
    Claim("hungry", "Little data hurts GANs most (Karras et al. 2020).",
          "distance with a tenth of the data over that with all, seed by seed: GAN's above every other family's", EXTRA,
          _hungry),
    Claim("copies", "Samples are new, not copies.", "verdict on memorisation: none for every model", BASE, _not_copies),
    Claim("critic", "A critic at chance means a finished GAN.",
          "over six or more kinds of GAN (presets and settings, means over seeds): the better the critic tells, the "
          "farther the samples (rank correlation, p < 0.05), "
          f"and none with a critic at chance is {MUCH:g} times as far as the best", EXTRA, _critic),
    Claim("repeats", "VAEs repeat themselves, too.", f"Vendi score of the VAE below {SHARE} of real data's", BASE,
          _repeats),
    Claim("least-diverse", "The autoencoder's samples are the least diverse.", "recall: autoencoder below every other "
          "family", BASE, most("recall", "autoencoder", least=True)),
    Claim("posterior", "VAEs suffer from posterior collapse (Bowman et al. 2016).",
          f"fewer than half of the code's dimensions active ({SHARE} or more: they do not)", BASE, _posterior),
    Claim("reconstructs", "An autoencoder reconstructs better than a VAE.", "reconstruction error: autoencoder below "
          "VAE", BASE, more("reconstruction", "autoencoder", "vae", better=True)),
    Claim("guidance", "Guidance buys fidelity with diversity (Ho and Salimans 2022).",
          "from guidance 1 to 4: precision rises and recall falls", f"{LABELS}, {EXTRA}", _guidance),
    Claim("late", "Diffusion needs a large budget: behind at first, ahead at the end.",
          "headline: worse than the better of VAE and GAN at 1/8 of the budget, better at all of it", "--curve", _late),
    Claim("train-speed", "A VAE sees more examples a second in training than GAN and diffusion.",
          f"examples a second: more than {CLEARLY} times theirs", BASE,
          faster("examples_per_second", "vae", others=("gan", "diffusion"))),
    Claim("hybrids", "Hybrids combine the strengths of the families (Larsen et al. 2016).",
          "a VAE with a critic (vae:gan): sharpness above the VAE's, and recall above the GAN's", EXTRA,
          both(more("sharpness", HYBRID, "vae"), more("recall", HYBRID, "gan"))),
    Claim("rule", "Quality: take a GAN; diversity: a VAE; both: diffusion.",
          "the GAN's headline is best, the VAE's recall or coverage highest, reliably; both: the best sum of ranks",
          BASE, _rule),
)  # fmt: skip


def decide(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What becomes of every claim on these data: key, sentence, verdict, figures (or why there are none), test, needs.

    `lacks`, where there are no figures: models and options that would bring them; none where these data cannot tell.
    """
    seen = Evidence(results)
    found = []
    for claim in CLAIMS:
        lacks: list[str] = []
        try:
            finding = claim.decide(seen)
        except Missing as problem:
            lacks = seen.lacks(problem, claim.needs)
            options = ", ".join(each for each in problem.by if each in lacks and each.startswith("--"))
            finding = Finding("cannot be told", f"not measured: {problem}{f' ({options})' if options else ''}")
        except (ArithmeticError, ValueError) as problem:  # figures of constant or broken data: no reason to stop
            finding = Finding("cannot be told", f"not measured: its figures cannot be compared ({problem})")
        found.append(
            {
                "key": claim.key,
                "sentence": claim.sentence,
                "verdict": finding.verdict,
                "figures": finding.figures,
                "test": claim.test,
                "needs": claim.needs,
                "lacks": lacks,
            }
        )
    return found


def document() -> str:
    """`docs/claims.md`: every claim with its test, as it was fixed before anything was measured."""
    lines = [
        "# The textbooks' claims, and how each is decided",
        "",
        "`trilemma compare DATA --claims --seeds 3` decides these on your data: *holds*, *does not hold*, or",
        "*cannot be told*, with the figures. Tests and thresholds were fixed before the tables of",
        "[claims-measured.md](claims-measured.md) were taken, after one trial on digits; this page is made from the",
        "same table (`python -m trilemma.report.claims > docs/claims.md`). Above and below mean a difference that",
        f"one could rely on: the 95 % interval of paired differences over {ENOUGH_SEEDS} or more seeds excludes zero;",
        "with fewer seeds, the intervals of the figures do not overlap. Where a test names a number or every seed,",
        "that decides.",
        "Claim 13 needs `--sensitivity` as well. Families are the presets",
        "`autoencoder`, `vae`, `gan` and `diffusion`; the headline is the Fréchet distance on the features of the",
        "in-domain network.",
        "",
        "| | Claim | It holds where | Needs |",
        "|--:|---|---|---|",
    ]
    lines += [f"| {n} | {c.sentence} | {c.test} | {c.needs} |" for n, c in enumerate(CLAIMS, 1)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(document(), end="")
