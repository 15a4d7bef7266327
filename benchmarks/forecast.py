"""Forecasts of a trained run over the end of a series, beside forecasts that need no model.

    .venv/bin/python benchmarks/forecast.py bikes.csv.gz RUN [--horizon 48] [--origins 40] [--draws 100] [--period 24]

Origins lie evenly over the last 15 % of each series, as far as the run did not learn from it. Fair CRPS a variable,
mean over origins and steps, beside that of the seasonal naive (absolute error), of the seasonal ensemble (the same
place in the last 14 periods as 14 draws; of a column that is learned by its changes, the last value plus 14 past
changes over as many steps) and, with the extra `series`, of exponential smoothing. Coverage: how often the truth lies
in the middle 90 % of the draws.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd

import trilemma as tl
from trilemma.errors import InputError
from trilemma.metrics.series import crps
from trilemma.modalities.series import Series
from trilemma.tasks.plain_forecasts import exponential_smoothing, period_of, seasonal_ensemble, seasonal_naive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("run")
    parser.add_argument("--horizon", type=int, default=48)
    parser.add_argument("--origins", type=int, default=40)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--period", type=int, help="steps; a day, week or year unless given")
    given = parser.parse_args()
    run = tl.load(given.run)
    series = run.modality
    assert isinstance(series, Series)
    period = given.period or period_of(series.clock)
    smooths = True
    scores: dict[str, list[list[float]]] = {channel.column.name: [] for channel in series.channels}
    for rows in series.rows(given.data):
        (_, begin), note = series.unseen(rows)
        if note:
            print(note)
        for origin in np.linspace(begin, len(rows.times) - given.horizon, given.origins).astype(int):
            back = max(0, origin - series.window - 2)
            frame = pd.DataFrame(rows.values[back:origin], columns=list(scores))
            frame.insert(0, "time", rows.times[back:origin].astype("datetime64[s]"))
            found = _told(run, series, frame, rows.name, given)
            truth = rows.values[origin : origin + given.horizon]
            for place, channel in enumerate(series.channels):
                past = pd.Series(rows.values[:origin, place]).ffill().to_numpy()
                changes = channel.kind != "level"
                plain = [
                    seasonal_naive(past, given.horizon, 1 if changes else period),
                    seasonal_ensemble(past, given.horizon, period, changes=changes),
                ]
                if smooths:
                    try:
                        plain.append(
                            exponential_smoothing(past, given.horizon, 1 if changes else period, draws=given.draws)
                        )
                    except InputError as reason:
                        print(f"left out: {reason}")
                        smooths = False
                real, own = truth[:, place], found[:, :, place]
                low, high = np.quantile(own, [0.05, 0.95], axis=0)
                inside = float(np.mean(((real >= low) & (real <= high))[~np.isnan(real)]))
                told = [float(np.nanmean(crps(draws, real))) for draws in (own, *plain)]
                scores[channel.column.name].append([inside, *told])
    names = ["CRPS", "seasonal naive", "seasonal ensemble", *(["exponential smoothing"] if smooths else [])]
    print(f"| variable | {' | '.join(names)} | of the best of these | truth inside 90 % |")
    print(f"|---|{'---|' * (len(names) + 2)}")
    for name, lines in scores.items():
        inside, *told = np.nanmean(lines, 0)
        print(f"| {name} | {' | '.join(f'{x:.4g}' for x in told)} | {told[0] / min(told[1:]):.3f} | {inside:.3f} |")


def _told(run: object, series: Series, frame: pd.DataFrame, name: str, given: argparse.Namespace) -> np.ndarray:
    """(draws, horizon, columns) levels, by the same way as `trilemma forecast` but for the file in between."""
    from trilemma.modalities.series import Rows
    from trilemma.tasks.forecast import _futures

    rows = Rows(name, frame["time"].to_numpy().astype("datetime64[s]").astype(np.int64), frame.iloc[:, 1:].to_numpy())
    when = series.clock.after(int(rows.times[-1]), given.horizon)
    ahead = series.ahead(np.zeros((0, len(series.channels))), when)  # nothing but the calendar is known then
    return _futures(run.sampler, series, rows, ahead, given.draws, 0, run.options)  # type: ignore[attr-defined]


if __name__ == "__main__":
    main()
