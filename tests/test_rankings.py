"""Places under each judge, where judges contradict each other, and how far they agree."""

from __future__ import annotations

import pytest

from trilemma.report.rankings import (
    Contradiction,
    agreement,
    contradictions,
    judge_name,
    judges,
    ranking_table,
    ranks,
    verdict,
)
from trilemma.report.summary import Summary, summaries


def models(**figures: dict[str, tuple[float, float]]) -> list[Summary]:
    """Models by name, each with metrics (value, half of its interval)."""
    rows = [
        {
            "name": name, "kind": "model", "status": "ok", "seed": 0,
            "metrics": {
                metric: {"value": value, "low": value - half, "high": value + half, "better": "lower"}
                for metric, (value, half) in metrics.items()
            },
        }
        for name, metrics in figures.items()
    ]  # fmt: skip
    return summaries({"rows": rows})


def three(**dinov2: tuple[float, float]) -> list[Summary]:
    """vae worst, gan and diffusion tied in the domain; dinov2's figures as given."""
    domain = {"vae": (9.0, 1.0), "gan": (3.0, 1.0), "diffusion": (2.5, 1.0)}
    given = {"vae": (0.9, 0.1), "gan": (0.5, 0.1), "diffusion": (0.1, 0.1), **dinov2}
    return models(**{name: {"frechet": domain[name], "kernel@dinov2": given[name]} for name in domain})


def test_intervals_decide_ties() -> None:
    found = three()
    assert ranks(found, "frechet") == {"vae": 3, "gan": 1, "diffusion": 1}
    assert ranks(found, "kernel@dinov2") == {"vae": 3, "gan": 2, "diffusion": 1}
    assert ranks(models(a={"frechet": (1.0, 0.1)}, b={}), "frechet") == {"a": 1}


def test_one_metric_for_each_judge_its_frechet_distance_where_all_have_it() -> None:
    value = (1.0, 0.1)
    both = {"kernel": value, "frechet": value, "frechet@random": value, "kernel@random": value, "recall": value}
    found = models(a={**both, "kernel@z": value, "kernel@imagenet": value}, b=both)
    assert judges(found) == ["frechet", "frechet@random", "kernel@imagenet", "kernel@z"]
    assert judges(models(a=both, b={"kernel": value, "kernel@random": value})) == ["kernel", "kernel@random"]
    assert [judge_name(m) for m in ("kernel", "kernel@imagenet", "frechet@z")] == [
        "in-domain features", "ImageNet's features", "z's features",
    ]  # fmt: skip


def test_contradictions_are_reliable_on_both_sides() -> None:
    metrics = ["frechet", "kernel@dinov2"]
    assert contradictions(three(), metrics) == []
    assert contradictions(three(gan=(0.05, 0.01)), metrics) == [], "the first judge cannot tell these two apart"
    assert contradictions(three(vae=(0.45, 0.1)), metrics) == [], "nor the second these"
    found = three(vae=(0.2, 0.05), diffusion=(0.9, 0.1))
    assert contradictions(found, metrics) == [
        Contradiction("gan", "vae", "frechet", "kernel@dinov2"),
        Contradiction("diffusion", "vae", "frechet", "kernel@dinov2"),
    ]
    said = verdict(found, metrics)
    assert said.startswith("The judges contradict each other on 2 of 3 pairs of models: in-domain features put gan")
    assert "put gan before vae, dinov2's features the reverse" in said
    assert verdict(three(), metrics).startswith("No judge contradicts another")


def test_agreement_is_the_mean_rank_correlation() -> None:
    metrics = ["frechet", "kernel@dinov2"]
    assert agreement(three(), metrics) == pytest.approx(1.0)
    assert agreement(three(vae=(0.1, 0.1), diffusion=(0.9, 0.1)), metrics) == pytest.approx(-1.0)
    # Of three judges, pairs 1, -1 and -1.
    rows = {"a": (1, 1, 3), "b": (2, 2, 2), "c": (3, 3, 1)}
    found = models(
        **{n: {"frechet": (a, 0.1), "kernel@x": (b, 0.1), "kernel@y": (c, 0.1)} for n, (a, b, c) in rows.items()}
    )
    assert agreement(found, judges(found)) == pytest.approx(-1 / 3)
    assert agreement(found[:2], judges(found)) is None and agreement(found, ["frechet"]) is None
    same = models(**{n: {"frechet": (1.0, 0.1), "kernel@x": (row[0], 0.1)} for n, row in rows.items()})
    assert agreement(same, judges(same)) is None, "one judge knows no order"


def test_the_table_for_the_report() -> None:
    table = ranking_table(three())
    assert table is not None
    assert table["judges"] == [("in-domain features", "Fréchet"), ("dinov2's features", "kernel")]
    assert [(line["name"], [place for place, _ in line["cells"]]) for line in table["lines"]] == [
        ("vae", [3, 3]), ("gan", [1, 2]), ("diffusion", [1, 1]),
    ]  # fmt: skip
    assert "Mean rank correlation between judges: 1.00" in table["verdict"]
    assert ranking_table(three()[:1]) is None and ranking_table(models(a={"frechet": (1, 0)}, b={})) is None
