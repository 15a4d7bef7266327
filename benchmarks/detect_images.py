"""Strange pictures: one class of a labelled set is normal, all others are strange; and normal pictures with a defect.

    .venv/bin/python benchmarks/detect_images.py fashion-mnist/ --out OUT [--classes 0,5,8] [--budget 60s]
        [--models vae,autoencoder,diffusion,bigan] [--most 500]

Of each class its training pictures are learned from; asked are at most `--most` test pictures of it, as many of all
other classes, and as many of it with a square of another class's picture (a third of the side, upside down) put in at a
random place. Areas under the curve for both kinds; the share of normal pictures that raise an alarm where 5 % may; how
often the reddest pixel of a defect lies in it. Beside them the fifth nearest neighbour among the training pictures, and
isolation forest on 64 principal components. A row that OUT/rows.jsonl has is not made again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import NearestNeighbors

import trilemma as tl


def defects(x: np.ndarray, others: np.ndarray, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (n, C, H, W) with a square of others' pixels in each, and where it is (n, H, W)."""
    x, side = x.copy(), max(x.shape[2] // 3, 1)
    where = np.zeros((len(x), *x.shape[2:]), dtype=bool)
    for index in range(len(x)):
        for _ in range(100):  # until something is to be seen of it
            other = others[random.integers(len(others))]
            top, left = (int(random.integers(n - side + 1)) for n in x.shape[2:])
            here = np.s_[:, top : top + side, left : left + side]
            square = np.rot90(other[here], 2, axes=(1, 2))
            if (np.abs(square.astype(int) - x[index][here]).max(0) > 50).mean() > 0.3:
                break
        x[index][here] = square
        where[index][here[1:]] = True
    return x, where


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--classes", default="0,5,8")
    parser.add_argument("--budget", default="60s")
    parser.add_argument("--models", default="vae,autoencoder,diffusion,bigan")
    parser.add_argument("--most", type=int, default=500)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    data = tl.open_data(given.data)
    labels = {name: np.asarray(data.conditions["label"][data.splits[name]]).ravel() for name in ("train", "test")}
    x = {name: data.rows(name, 10**9) for name in ("train", "test")}
    log = given.out / "rows.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for normal in (int(each) for each in given.classes.split(",")):
        random = np.random.default_rng(normal)
        learn = x["train"][labels["train"] == normal]
        good = x["test"][labels["test"] == normal][: given.most]
        other = random.permutation(x["test"][labels["test"] != normal])[: given.most]
        broken, where = defects(good, other, random)
        asked = np.concatenate([good, other, broken])
        kinds = np.repeat(["good", "other", "broken"], [len(good), len(other), len(broken)])
        np.save(given.out / f"learn-{normal}.npy", data.modality.export(learn))

        def row(name: str, scores: np.ndarray, kinds: np.ndarray = kinds, normal: int = normal, **more: float) -> None:
            areas = {
                f"area_{kind}": roc_auc_score(kinds[(kinds == "good") | (kinds == kind)] == kind,
                                              scores[(kinds == "good") | (kinds == kind)])
                for kind in ("other", "broken")
            }  # fmt: skip
            found = {"class": normal, "detector": name, **{k: round(float(v), 4) for k, v in {**areas, **more}.items()}}
            done.append(found)
            print(json.dumps(found), flush=True)
            with log.open("a") as file:
                file.write(json.dumps(found) + "\n")

        def there(name: str, normal: int = normal) -> bool:
            return any(one["class"] == normal and one["detector"] == name for one in done)

        flat, ask = (part.reshape(len(part), -1).astype(np.float32) / 255 for part in (learn, asked))
        if not there("nearest neighbours, the fifth"):
            near = NearestNeighbors(n_neighbors=5).fit(flat).kneighbors(ask)[0][:, -1]
            row("nearest neighbours, the fifth", near)
        if not there("isolation forest"):
            pca = PCA(64, random_state=0).fit(flat)
            forest = IsolationForest(random_state=0).fit(pca.transform(flat))
            row("isolation forest", -forest.score_samples(pca.transform(ask)))
        for model in given.models.split(","):
            name = f"{model}, {given.budget}"
            if there(name):
                continue
            run = given.out / f"{model.replace(':', '-')}-{normal}"
            source = given.out / f"learn-{normal}.npy"
            tl.train(source, model=model, budget=given.budget, out=run, quiet=True)
            found = tl.load(run).anomalies(data.modality.export(asked), false_alarms=0.05)
            reddest = found.maps[kinds == "broken"].reshape(len(broken), -1).argmax(1)
            hit = where.reshape(len(where), -1)[np.arange(len(where)), reddest].mean()
            row(name, found.scores, false_alarms=found.alarms[kinds == "good"].mean(), reddest_in_defect=hit,
                share_of_defect=where.mean(), alarms_other=found.alarms[kinds == "other"].mean(),
                alarms_broken=found.alarms[kinds == "broken"].mean())  # fmt: skip
            found.frame(given.out / f"{run.name}.csv")


if __name__ == "__main__":
    main()
