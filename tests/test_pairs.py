"""Sources and targets: pairs by name, by a table, in halves, by a degradation; two sets; what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

import trilemma as tl
from trilemma.errors import InputError
from trilemma.modalities.contract import Data, Opening
from trilemma.modalities.degrade import degraded, parse
from trilemma.modalities.door import open_data
from trilemma.modalities.splits import joined
from trilemma.report.places import Job, _portable
from trilemma.spaces import Categorical
from trilemma.training.engine import Engine
from trilemma.training.opening import seen_by, usual_model
from trilemma.training.run import Run
from trilemma.training.sampling import Sampler, told_labels
from trilemma.training.start import _asked, _check_same

COUNT, SIDE = 24, 8


def pictures(channels: int = 3, seed: int = 0, side: int = SIDE) -> np.ndarray:
    shape = (COUNT, side, side, channels)[: 4 if channels > 1 else 3]
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def folder(place: Path, x: np.ndarray, names: list[str] | None = None) -> Path:
    place.mkdir()
    for number, one in enumerate(x):
        Image.fromarray(one).save(place / f"{names[number] if names else f'{number:03d}'}.png")
    return place


def opened(*sources: Any, **settings: Any) -> Data:
    return open_data(sources[0], data2=sources[1] if len(sources) > 1 else None, opening=Opening(**settings))


def check_pairs(data: Data, sources: np.ndarray, targets: np.ndarray) -> None:
    """Every target has its own source, in every split."""
    want = {target.tobytes(): source for source, target in zip(sources, targets, strict=True)}
    assert sum(map(len, data.splits.values())) == len(targets)
    for name in ("train", "choose", "test"):
        held = data.sources(name)
        assert held is not None and len(held) == len(data.splits[name])
        for x, source in zip(data.rows(name), held[:], strict=True):
            found = want[data.modality.export(x[None])[0].tobytes()]
            np.testing.assert_array_equal(data.modality.export(source[None])[0], found)
    batch = data.split("train").gather(np.arange(3))
    np.testing.assert_array_equal(batch.raw["source"], data.sources("train")[:3])  # type: ignore[index]


def test_pairs_by_file_name(tmp_path: Path) -> None:
    """In any order of the files, of another ending, and once more from the cache."""
    a, b = pictures(seed=1), pictures(seed=2)
    names = [f"{chr(97 + (7 * number) % COUNT)}" for number in range(COUNT)]
    one, two = folder(tmp_path / "a", a, names), tmp_path / "b"
    two.mkdir()
    for number in np.random.default_rng(0).permutation(COUNT):
        Image.fromarray(b[number]).save(two / f"{names[number]}.bmp")
    for _ in range(2):
        data = opened(one, two)
        check_pairs(data, a, b)
        assert set(data.spaces) == {"x", "source"} and data.name == "a-to-b"
    assert opened(one, two).hash == data.hash != opened(two, one).hash != opened(two).hash


def test_sides_of_other_mode_and_size_are_brought_to_one(tmp_path: Path) -> None:
    grey, colour = pictures(1, seed=1, side=12), pictures(seed=2)
    data = opened(folder(tmp_path / "grey", grey), folder(tmp_path / "colour", colour))
    assert data.spaces["source"].shape == data.spaces["x"].shape == (3, SIDE, SIDE)
    assert any("brought from L" in note for note in data.notes)
    source = data.sources("train")[:]  # type: ignore[index]
    assert (source[:, 0] == source[:, 1]).all()


def test_two_sets(tmp_path: Path) -> None:
    """Without a common name, or when pairs are not wanted: splits of their own, and an order of their own."""
    a, b = pictures(seed=1)[:20], pictures(seed=2)
    one, two = folder(tmp_path / "a", a, [f"a{n}" for n in range(20)]), folder(tmp_path / "b", b)
    for data in (opened(one, two), opened(folder(tmp_path / "c", a), two, pairs="none"), opened(one, two)):
        assert set(data.spaces) == {"x", "other"}
        assert sum(map(len, data.other_splits.values())) == 20
        sources = [data.sources(name)[:] for name in ("train", "choose", "test")]  # type: ignore[index]
        assert len(np.unique(np.concatenate(sources).reshape(20, -1), axis=0)) == 20
        train = data.split("train")
        seen = train.gather(np.arange(2), index=np.arange(1000, 1002)).other
        assert seen is not None and seen.shape == (2, 3, SIDE, SIDE)
        every = train.gather(np.zeros(len(sources[0]), dtype=int), index=np.arange(len(sources[0]))).other
        assert {row.numpy().tobytes() for row in every} == {row.tobytes() for row in sources[0]}  # type: ignore[union-attr]


def test_the_usual_model_goes_by_what_belongs_together(tmp_path: Path) -> None:
    """`train` without --model: pairs, two sets, or one; and that is the model of the run."""
    one, two = folder(tmp_path / "a", pictures(seed=1)), folder(tmp_path / "b", pictures(seed=2))
    other = folder(tmp_path / "c", pictures(seed=3), [f"c{number}" for number in range(COUNT)])
    assert usual_model((one, two), Opening(), []) == "bridge"
    assert usual_model((one, two), Opening(pairs="none"), []) == usual_model((one, other), Opening(), []) == "cut"
    assert usual_model((one, None), Opening(), []) == "diffusion"
    settings = {"training.previews": 0, "training.choose_samples": 0, "network.width": 8, "critic.width": 8}
    run = tl.train(one, other, out=tmp_path / "run", budget="32", size="xs", settings=settings, quiet=True)
    assert run.config()["model"] == "cut" and tl.load(run.folder).can() == ["translate", "info"]


@pytest.mark.parametrize("side", [0, 1])
def test_one_picture_is_no_set(side: int, tmp_path: Path) -> None:
    """In a folder or by itself, on either side, as pairs or as two sets: the error names it and says what to do."""
    many, few = folder(tmp_path / "many", pictures(seed=1)), folder(tmp_path / "few", pictures(seed=2)[:1])
    for settings, words in (
        ({}, r"1 pairs by file name, but 23 files without a partner"),
        ({"skip_bad": True}, r"only 1 examples; at least 16 are needed"),
        ({"pairs": "none"}, r"few: only 1 examples; at least \d+ are needed"),
    ):
        sources = (few, many) if side == 0 else (many, few)
        with pytest.raises(InputError, match=words):
            opened(*sources, **settings)
    alone = few / "000.png"
    with pytest.raises(InputError, match=r"000\.png: is a single image; give the folder"):
        opened(*((alone, many) if side == 0 else (many, alone)))


def test_pairs_as_two_sets() -> None:
    data = opened(pictures(seed=1), pictures(seed=2))
    assert "source" in data.spaces and any("by their order" in note for note in data.notes)
    apart = data.without_pairs()
    assert set(apart.spaces) == {"x", "other"} and "source" not in apart.conditions
    np.testing.assert_array_equal(apart.sources("test")[:], data.sources("test")[:])  # type: ignore[index]


def labelled(count: int = COUNT) -> Data:
    data = opened(pictures(seed=1), pictures(seed=2))
    labels = np.arange(count)[:, None] % 3
    return replace(
        data, conditions={**data.conditions, "label": labels}, present={"label": np.arange(count) > 3},
        spaces={**data.spaces, "label": Categorical((1,), 3)}, label_names=["a", "b", "c"],
    )  # fmt: skip


def test_translators_see_no_labels() -> None:
    data = labelled()
    for name in ("bridge", "pix2pix", "cut", "cyclegan:published"):
        seen = seen_by(name, data)
        assert set(seen.spaces) == {"x", "other" if "c" in name[:1] else "source"} and not seen.label_names
        assert "label" not in seen.split("train").gather(np.arange(3)).raw and not seen.present
        assert seen.hash == data.hash
    assert seen_by("diffusion", data) is data


def test_samples_from_labelled_pairs_are_asked_for_by_their_own_label() -> None:
    data = labelled()
    rows, told = data.splits["choose"], told_labels(data.split("choose"))
    np.testing.assert_array_equal(told, np.where(rows > 3, rows % 3, -1)[:, None])
    assert told_labels(data.without_pairs().split("choose")) is None
    sampler = Sampler(nn.Module(), Engine(device="cpu"), frequencies=[0.5, 0.3, 0.2], dtype=data.x.dtype, told=told)  # type: ignore[arg-type]
    own, index = sampler.labels(7, np.arange(2 * len(rows))), np.arange(2 * len(rows)) % len(rows)
    known = told[index] >= 0
    np.testing.assert_array_equal(own[known], told[index][known])


def test_two_places_are_kept_and_open_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run made from a `Data` knows both of its sides, as one made from paths does; a process opens them again."""
    one, two = folder(tmp_path / "X", pictures(seed=1)), folder(tmp_path / "Y", pictures(seed=2))
    monkeypatch.chdir(tmp_path)
    data = opened("X", Path("Y"))
    assert data.places == (str(one), str(two))
    rest: list[Any] = ["cyclegan", None, "2k", 0, None, None, None, None, False]
    asked = _asked(data, None, *rest)
    assert asked == _asked("X", "Y", *rest) and (asked["source"], asked["data2"]) == data.places
    job, source = _portable(Job(data, "cyclegan", "2k", 0, tmp_path / "run", {}))
    assert job.data is None and source is not None and source.open().hash == data.hash
    mixed = opened("X", pictures(seed=2))
    assert mixed.places == (str(one), "array") and opened(pictures()).places == ("array",)
    assert _asked(mixed, None, *rest)["data2"] == "array"
    assert _portable(Job(mixed, "cyclegan", "2k", 0, tmp_path / "run", {}))[1] is None
    part = replace(data, hash="of a part")
    assert _portable(Job(part, "cyclegan", "2k", 0, tmp_path / "run", {}))[1] is None


def test_pairs_named_by_a_table(tmp_path: Path) -> None:
    a, b = pictures(seed=1), pictures(seed=2)
    place = folder(tmp_path / "set", b, [f"target{n}" for n in range(COUNT)])
    (place / "sources").mkdir()
    lines = ["file_name,source_file_name"]
    for number, one in enumerate(a):
        Image.fromarray(one).save(place / "sources" / f"{number}.png")
        lines.append(f"target{number}.png,sources/{number}.png")
    (place / "metadata.csv").write_text("\n".join(lines))
    check_pairs(opened(place), a, b)
    held: list[Data] = []
    assert usual_model((place, None), Opening(), held) == "bridge" and len(held) == 1
    (place / "metadata.csv").write_text("\n".join([*lines[:-1], "target23.png,sources/nothing.png"]))
    with pytest.raises(InputError, match=r"nothing\.png.*not there"):
        opened(place)


def test_a_column_named_source_need_not_name_pictures(tmp_path: Path) -> None:
    place = folder(tmp_path / "set", pictures())
    lines = ["file_name,source", *(f"{number:03d}.png,flickr" for number in range(COUNT))]
    (place / "metadata.csv").write_text("\n".join(lines))
    assert set(opened(place).spaces) == {"x"}


def test_pairs_of_sixteen_bits(tmp_path: Path) -> None:
    a, b = (np.random.default_rng(seed).integers(0, 65536, (COUNT, SIDE, SIDE), dtype=np.uint16) for seed in (1, 2))
    data = opened(folder(tmp_path / "a", a), folder(tmp_path / "b", b))
    check_pairs(data, a, b)
    assert data.x.dtype == data.conditions["source"].dtype == np.uint16


def test_pairs_with_something_in_common_stay_together() -> None:
    """Equal sources, equal targets, and what hangs together by both; but not all that share an empty source."""
    digest = np.random.default_rng(0).integers(0, 2**63, (400, 2)).astype(np.uint64)
    sources = np.random.default_rng(1).integers(0, 2**63, (400, 2)).astype(np.uint64)
    np.testing.assert_array_equal(joined(digest, sources), digest)
    sources[1], sources[2], digest[3] = sources[0], sources[0], digest[2]  # 0, 1, 2 by source; 2 and 3 by target
    sources[100:200] = sources[100]
    found = joined(digest, sources)
    assert len(np.unique(found[:4], axis=0)) == 1 and found[0].tolist() in digest[:4].tolist()
    np.testing.assert_array_equal(found[4:], digest[4:])


@pytest.mark.parametrize("way", ["left", "right"])
def test_pairs_in_halves(tmp_path: Path, way: str) -> None:
    a, b = pictures(seed=1), pictures(seed=2)
    both = np.concatenate([a, b] if way == "left" else [b, a], axis=2)
    check_pairs(opened(folder(tmp_path / "both", both), pairs=way), a, b)


def test_degradations_are_what_they_say(tmp_path: Path) -> None:
    x = pictures().transpose(0, 3, 1, 2)
    seeds = np.arange(COUNT)
    assert (degraded(x, "darken 0.5", seeds) == np.rint(x * 0.5)).all()
    grey = degraded(x, "grey", seeds)
    luma = np.rint(np.tensordot(x.astype(float), [0.299, 0.587, 0.114], axes=(1, 0)))
    assert (grey[:, 0] == grey[:, 2]).all() and np.abs(grey[:, 0] - luma).max() <= 1
    flat = np.full((200, 1, 16, 16), 128, np.uint8)
    noisy = degraded(flat, "noise 20", np.arange(200)).astype(float) - 128
    assert noisy.std() == pytest.approx(20, rel=0.02) and abs(noisy.mean()) < 0.3
    np.testing.assert_array_equal(noisy[5:7], degraded(flat[:2], "noise 20", np.arange(5, 7)).astype(float) - 128)
    small = degraded(x, "downscale 4", seeds)
    exact = [
        np.asarray(Image.fromarray(one.transpose(1, 2, 0)).resize((2, 2), Image.Resampling.BICUBIC)
                   .resize((SIDE, SIDE), Image.Resampling.BICUBIC)).transpose(2, 0, 1)
        for one in x
    ]  # fmt: skip
    np.testing.assert_array_equal(small, np.stack(exact))
    alpha = np.concatenate([x, x[:, :1]], 1)
    assert (degraded(alpha, "darken 0.5, noise 5", seeds)[:, 3] == x[:, 0]).all()
    data = opened(folder(tmp_path / "x", pictures()), degradation="blur 1, noise 3")
    again = opened(tmp_path / "x", degradation="blur 1, noise 3")
    np.testing.assert_array_equal(data.sources("train")[:], again.sources("train")[:])  # type: ignore[index]
    assert data.hash == again.hash != opened(tmp_path / "x", degradation="blur 1").hash


def test_training_sees_other_noise_each_time() -> None:
    """A function of (seed, place in the endless order); what is chosen and measured by stays as it is."""
    data = opened(pictures(), degradation="darken 0.5, noise 20")

    def seen(data: Data, split: str, *, seed: int = 0, first: int = 0) -> np.ndarray:
        """(40, ...) sources: of pairs that of one picture, of two sets whichever come along."""
        batch = data.split(split).gather(np.zeros(40, int), seed=seed, index=first + np.arange(40))
        return (batch.raw["source"] if batch.other is None else batch.other).numpy().astype(float)

    for held in (data, data.without_pairs()):
        np.testing.assert_array_equal(seen(held, "train"), seen(held, "train"))
        np.testing.assert_array_equal(seen(held, "train")[3:], seen(held, "train", first=3)[:-3])
        assert not np.array_equal(seen(held, "train"), seen(held, "train", seed=1))
        fixed = {row.tobytes() for row in held.sources("train")[:].astype(float)}  # type: ignore[index]
        assert not any(row.tobytes() in fixed for row in seen(held, "train"))
        fixed = {row.tobytes() for row in held.sources("choose")[:].astype(float)}  # type: ignore[index]
        assert all(row.tobytes() in fixed for row in seen(held, "choose"))
    assert seen(data, "train").std(0).mean() == pytest.approx(20, rel=0.25)  # less where it is cut off
    assert opened(pictures(), degradation="blur 1").split("train").renewed == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("downscale", "from 2 to 16"),
        ("downscale 99", "from 2 to 16"),
        ("dwnscale 4", "downscale"),
        ("grey 3", "takes no number"),
        ("noise 2.3.4", "from 1 to 128"),
        ("", "unknown"),
    ],
)
def test_degradations_that_are_none(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse(text)


def test_what_is_wrong_with_two_sides(tmp_path: Path) -> None:
    a = folder(tmp_path / "a", pictures(seed=1))
    b = folder(tmp_path / "b", pictures(seed=2))
    (b / "005.png").unlink()
    with pytest.raises(InputError, match=r"23 pairs.*1 files without a partner.*'005'"):
        opened(a, b)
    data = opened(a, b, skip_bad=True)
    assert len(data.x) == 23 and any("without a partner" in note for note in data.notes)
    with pytest.raises(InputError, match="without a partner"):  # what was left out once is an error again
        opened(a, b)
    (b / "006.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"006\.png"):
        opened(b, a, pairs="none")
    assert len(opened(a, b, skip_bad=True).x) == 22
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        opened(a, tmp_path / "empty")
    with pytest.raises(InputError, match="no such file"):
        opened(a, tmp_path / "nowhere")
    for settings, words in (
        ({"pairs": "rows"}, "row"),
        ({"pairs": "left"}, "leave DATA2 out"),
        ({"degradation": "grey"}, "leave DATA2"),
    ):
        with pytest.raises(InputError, match=words):
            opened(a, b, **settings)
    Image.fromarray(pictures()[0]).save(a / "003.bmp")
    with pytest.raises(InputError, match=r"003\.bmp and 003\.png|003\.png and 003\.bmp"):
        opened(a, b, pairs="name")
    with pytest.raises(InputError, match="only one was given"):
        opened(a, pairs="name")
    with pytest.raises(InputError, match="24 sources and 23 targets"):
        opened(pictures(), pictures()[:23], pairs="row")
    with pytest.raises(InputError, match="of kind points"):
        opened(np.zeros((50, 2), np.float32), degradation="grey")


def test_another_way_to_pair_is_another_command_and_another_place_is_not(tmp_path: Path) -> None:
    """Also where the command line reads 'none' as nothing; contents are told by their hash."""

    def asked(data2: Any, settings: dict[str, Any]) -> dict[str, Any]:
        return _asked("a", data2, "bridge", None, "10s", 0, settings, None, None, None, False)

    config = {"asked": asked("b", {}), "extended": []}
    _check_same(Run(tmp_path), config, asked("b", {}), False)
    _check_same(Run(tmp_path), config, asked("c", {}), False)
    with pytest.raises(InputError, match=r"data\.pairs"):
        _check_same(Run(tmp_path), config, asked("b", {"data.pairs": None}), False)
