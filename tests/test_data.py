"""Data in: every format opens to the same arrays, splits follow contents, toy densities are true."""

from __future__ import annotations

import functools
import gzip
import http.server
import io
import json
import struct
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trilemma.errors import InputError
from trilemma.modalities import assemble, cache, door, download, named, splits, toys
from trilemma.modalities.contract import Opening
from trilemma.modalities.door import open_data
from trilemma.modalities.image import Images
from trilemma.modalities.points import Points
from trilemma.report import outlook
from trilemma.spaces import Categorical, Continuous, fit_continuous

COUNT = 40


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TRILEMMA_DATA", raising=False)
    monkeypatch.delenv("TRILEMMA_MIRROR", raising=False)
    monkeypatch.setattr(download, "PAUSE", 0.0)


def grey(count: int = COUNT, size: tuple[int, int] = (6, 5), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *size), dtype=np.uint8)


def colour(count: int = COUNT, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 6, 5, channels), dtype=np.uint8)


def write(folder: Path, images: np.ndarray, suffix: str = ".png", names: list[str] | None = None) -> Path:
    for index, image in enumerate(images):
        path = folder / f"{names[index] if names else format(index, '03d')}{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return folder


def as_set(x: np.ndarray) -> set[bytes]:
    return {np.ascontiguousarray(row).tobytes() for row in x}


# Formats ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".webp", ".gif"])
def test_folder_of_images_round_trips(tmp_path: Path, suffix: str) -> None:
    images = grey() if suffix == ".gif" else colour()
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index}{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    data = open_data(folder)
    wanted = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    assert data.name == "photos" and data.x.dtype == np.uint8
    assert as_set(data.x) == as_set(wanted)
    assert np.array_equal(np.sort(np.concatenate(list(data.splits.values()))), np.arange(COUNT))
    exported = data.modality.export(np.asarray(data.x))
    assert exported.shape == images.shape and as_set(exported) == as_set(images)


def test_zip_and_tars_and_the_folder_give_equal_data(tmp_path: Path) -> None:
    names = [f"{'cat' if i % 2 else 'dog'}/{i:03d}" for i in range(COUNT)]
    folder = write(tmp_path / "pets", colour(), names=names)
    (folder / ".hidden.png").write_bytes(b"no image")
    (folder / "__MACOSX").mkdir()
    (folder / "__MACOSX" / "._1.png").write_bytes(b"no image")
    (folder / "Thumbs.db").write_bytes(b"no image")
    archives = [tmp_path / "pets.zip", tmp_path / "pets.tar", tmp_path / "pets.tar.gz", tmp_path / "pets.tar.xz"]
    with zipfile.ZipFile(archives[0], "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, f"around/{path.relative_to(folder)}")
    for path, mode in zip(archives[1:], ("w", "w:gz", "w:xz"), strict=True):
        with tarfile.open(path, mode) as archive:
            archive.add(folder, "pets")
    first = open_data(folder)
    assert first.label_names == ["cat", "dog"]
    assert first.conditions["label"].ravel().tolist() == [0] * 20 + [1] * 20
    assert isinstance(first.spaces["label"], Categorical) and first.spaces["label"].count == 2
    for path in archives:
        data = open_data(str(path))
        assert data.hash == first.hash, path
        assert np.array_equal(data.x, first.x) and data.name == "pets"
    part = open_data(tmp_path / "pets.zip" / "around" / "dog")
    assert len(part.x) == 20 and part.label_names == []
    said = "all pictures are in one folder (cat): no label is made of a single one"
    write(tmp_path / "one", colour(), names=[f"cat/{i:03d}" for i in range(COUNT)])
    assert said in open_data(tmp_path / "one").notes and not [n for n in data.notes if "one folder" in n]


def test_arrays_from_memory_and_files(tmp_path: Path) -> None:
    images, labels = colour(), np.arange(COUNT) % 3 + 4
    plain = open_data(images)
    assert np.array_equal(plain.x, images.transpose(0, 3, 1, 2)) and plain.source == "array"
    np.save(tmp_path / "a.npy", images)
    np.savez(tmp_path / "b.npz", images=images, labels=labels)
    np.savez(tmp_path / "c.npz", x_train=images[:30], y_train=labels[:30], x_test=images[30:], y_test=labels[30:])
    assert np.array_equal(open_data(tmp_path / "a.npy").x, plain.x)
    labelled = open_data(tmp_path / "b.npz")
    assert labelled.label_names == ["4", "5", "6"]
    assert np.array_equal(labelled.conditions["label"].ravel(), np.arange(COUNT) % 3)
    official = open_data(tmp_path / "c.npz")
    assert sorted(official.splits["test"]) == list(range(30, 40))
    assert open_data((images, labels)).hash == labelled.hash
    assert open_data({"x": images, "y": labels}).hash == labelled.hash
    assert np.array_equal(open_data([Image.fromarray(image) for image in images]).x, plain.x)
    assert np.array_equal(open_data(list(images)).x, plain.x)
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
    again = open_data(tensor)
    assert np.array_equal(again.x, plain.x) and any("[0, 1]" in note for note in again.notes)


@pytest.mark.parametrize(
    "bring",
    [
        lambda x: x / 255.0,
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.int64),
        lambda x: (x / 127.5 - 1).astype(np.float32),
        lambda x: x[:, None],
        lambda x: x[..., None],
    ],
)
def test_value_ranges_and_layouts_are_understood(bring) -> None:
    images = grey()
    images[0, 0, :2] = 0, 255
    assert np.array_equal(open_data(bring(images)).x, images[:, None])


def test_booleans_and_two_levels_are_binary() -> None:
    images = grey() > 127
    for x in (images, images.astype(np.uint8), images.astype(np.uint8) * 255, images.astype(float)):
        data = open_data(x)
        space = data.spaces["x"]
        assert isinstance(space, Continuous) and (space.low, space.high, space.levels) == (0, 255, 2)
        assert np.array_equal(data.x[:, 0] > 0, images)


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(folder: Path, packed: bool = True) -> tuple[np.ndarray, np.ndarray]:
    x, y = grey(60, (28, 28)), (np.arange(60) % 10).astype(np.uint8)
    folder.mkdir(parents=True)
    parts = {"train-images-idx3": x[:40], "train-labels-idx1": y[:40], "t10k-images-idx3": x[40:]}
    for name, array in {**parts, "t10k-labels-idx1": y[40:]}.items():
        content = idx_bytes(array)
        path = folder / (name + "-ubyte" + (".gz" if packed else ""))
        path.write_bytes(gzip.compress(content) if packed else content)
    return x, y


def test_test_files_of_other_idx_sets_are_the_test_split(tmp_path: Path) -> None:
    """EMNIST's names have the word in the middle."""
    for part, count in (("train", 20), ("test", 8)):
        images = grey(count, seed=count)
        header = struct.pack(">IIII", 0x803, count, *images.shape[1:])
        (tmp_path / f"emnist-letters-{part}-images-idx3-ubyte").write_bytes(header + images.tobytes())
    data = open_data(tmp_path)
    assert len(data.x) == 28 and as_set(data.rows("test")[:, 0]) == as_set(grey(8, seed=8))


def test_linked_folders_are_entered_and_circles_are_not(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "cats", colour(20, seed=1))
    folder = write(tmp_path / "set" / "dogs", colour(20, seed=2)).parent
    (folder / "cats").symlink_to(tmp_path / "elsewhere" / "cats")
    (folder / "cats" / "up").symlink_to(folder)
    data = open_data(folder)
    assert data.label_names == ["cats", "dogs"] and len(data.x) == 40


@pytest.mark.parametrize("count", [16, 17, 30, 60, 100])
def test_small_sets_can_be_measured(count: int) -> None:
    data = open_data(grey(count))
    test, choose = len(data.splits["test"]), len(data.splits["choose"])
    assert min(test, choose) >= 2 and test + choose < count / 2
    if count >= 60:
        assert min(test, choose) >= 9


@pytest.mark.parametrize("packed", [True, False])
def test_idx_folder_has_its_own_test_split(tmp_path: Path, packed: bool) -> None:
    x, y = write_mnist(tmp_path / "files", packed)
    data = open_data(tmp_path / "files")
    assert np.array_equal(data.x, x[:, None]) and np.array_equal(data.conditions["label"].ravel(), y)
    assert sorted(data.splits["test"]) == list(range(40, 60))
    assert len(data.splits["choose"]) > 0
    one = open_data(tmp_path / "files" / ("train-images-idx3-ubyte" + (".gz" if packed else "")))
    assert len(one.x) == 40 and one.label_names == [str(d) for d in range(10)]


def test_train_and_test_folders_are_splits(tmp_path: Path) -> None:
    names = [f"{'test' if i >= 30 else 'train'}/{'ab'[i % 2]}/{i}" for i in range(COUNT)]
    data = open_data(write(tmp_path / "set", grey(), names=names))
    assert data.label_names == ["a", "b"] and len(data.splits["test"]) == 10
    test_rows = as_set(data.rows("test"))
    assert test_rows == as_set(grey()[30:])


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 65536, (20, 6, 5), dtype=np.uint16)
    data = open_data(write(tmp_path / "deep", images))
    space = data.spaces["x"]
    assert data.x.dtype == np.uint16 and np.array_equal(data.x[:, 0], images)
    assert isinstance(space, Continuous) and (space.low, space.high, space.levels) == (0, 65535, 65536)
    assert np.array_equal(open_data(images).x, data.x)
    assert data.modality.export(data.x).dtype == np.uint16
    saved = data.modality.save(np.asarray(data.x[:2]), tmp_path / "out")
    assert np.array_equal(np.asarray(Image.open(saved[0])), images[0])
    colours = np.random.default_rng(0).integers(0, 65536, (20, 6, 5, 3), dtype=np.uint16)
    deep = open_data(colours)
    assert deep.x.dtype == np.uint16  # a picture of 16-bit colours has 8: Pillow knows no others
    (file, *_) = deep.modality.save(np.asarray(deep.x[:2]), tmp_path / "colours")
    assert np.array_equal(np.asarray(Image.open(file)), colours[0] // 257)
    (array,) = deep.modality.save(np.asarray(deep.x[:2]), tmp_path / "colours.npy")
    assert np.array_equal(np.load(array), colours[:2])
    small = open_data(tmp_path / "deep", resolution=(4, 4))
    assert small.x.dtype == np.uint16 and small.x.shape == (20, 1, 4, 4) and small.x.max() > 255
    Image.fromarray(grey(1)[0]).save(tmp_path / "deep" / "shallow.png")
    mixed = open_data(tmp_path / "deep")
    assert mixed.x.dtype == np.uint8 and any("16 bits" in note for note in mixed.notes)


def test_modes_are_brought_to_one_and_said(tmp_path: Path) -> None:
    folder = write(tmp_path / "mixed", grey(10))
    write(folder, colour(10), names=[f"c{i}" for i in range(10)])
    Image.fromarray(colour(1, seed=3)[0]).convert("P").save(folder / "palette.png")
    Image.fromarray(colour(1, seed=4)[0]).convert("CMYK").save(folder / "print.jpg")
    data = open_data(folder)
    assert data.x.shape == (22, 3, 6, 5) and any("mixed modes" in note for note in data.notes)
    transparent = open_data(write(tmp_path / "clear", colour(20, 4)))
    assert transparent.x.shape[1] == 4 and transparent.modality.describe()["mode"] == "RGBA"
    assert transparent.modality.picture(transparent.rows("train", 4)).mode == "RGB"
    opaque = colour(20, 4)
    opaque[..., 3] = 255
    assert open_data(write(tmp_path / "opaque", opaque)).x.shape[1] == 3
    same = open_data(write(tmp_path / "same", grey(20)[..., None].repeat(3, 3)))
    assert same.x.shape[1] == 1 and any("read as L" in note for note in same.notes)
    few = write(tmp_path / "few", colour(20))
    Image.fromarray(np.zeros((6, 5, 4), np.uint8)).save(few / "clear.png")
    on_white = open_data(few)
    assert on_white.x.shape[1] == 3 and (on_white.x == 255).all((1, 2, 3)).sum() == 1


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    (tmp_path / "turned").mkdir()
    for index in range(18):
        image = Image.fromarray(grey(1, (16, 8), seed=index)[0])
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(tmp_path / "turned" / f"{index}.png", exif=exif)
    data = open_data(tmp_path / "turned")
    assert data.x.shape == (18, 1, 8, 16)
    assert np.array_equal(data.x[0, 0], np.rot90(grey(1, (16, 8), seed=0)[0], -1))


# Sizes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "resolution", "wanted"),
    [
        ({(28, 28): 9}, None, (28, 28)),
        ({(64, 48): 9}, None, (64, 48)),
        ({(112, 92): 9}, None, (64, 52)),
        ({(480, 640): 9, (960, 1280): 4, (500, 500): 1}, None, (48, 64)),
        ({(480, 640): 4, (500, 500): 4, (900, 300): 4}, None, (64, 64)),
        ({(64, 64): 9}, 32, (32, 32)),
        ({(28, 28): 9}, 32, (32, 32)),
        ({(480, 640): 9}, 32, (24, 32)),
        ({(480, 640): 9}, (20, 30), (20, 30)),
    ],
)
def test_target_size(sizes, resolution, wanted) -> None:
    from collections import Counter

    assert assemble.target_size(Counter(sizes), resolution) == wanted


def test_crop_and_pad(tmp_path: Path) -> None:
    images = np.full((20, 40, 80, 3), 200, np.uint8)
    images[:, :, :20], images[:, :, 60:] = (255, 0, 0), (0, 0, 255)
    images[:, 18:22, 40:44, 1] = (12 * np.arange(20))[:, None, None]
    folder = write(tmp_path / "wide", images)
    cropped = open_data(folder, resolution=(20, 20))
    assert (abs(cropped.x[0, :, 10, [2, 17]].astype(int) - 200) <= 1).all()
    padded = open_data(folder, resolution="20x20", fit="pad")
    assert padded.x.shape == (20, 3, 20, 20) and padded.x[0, 0, 10, 1] > 200 > padded.x[0, 1, 10, 1]
    assert any("padded" in note for note in padded.notes) and any("cropped" in note for note in cropped.notes)
    assert padded.hash != cropped.hash


def test_resizing_is_antialiased() -> None:
    board = np.indices((64, 64)).sum(0) % 2 * 255
    images = np.stack([np.roll(board, i, 1) for i in range(20)]).astype(np.uint8)
    images[np.arange(20), 0, np.arange(20)] = 7
    data = open_data(images, resolution=16)
    assert abs(float(data.x[:, :, 2:].mean()) - 127.5) < 3 and data.x[:, :, 2:].std() < 8


# Splits and cache ---------------------------------------------------------------------------------------------------


def test_duplicates_fall_on_one_side_and_adding_files_moves_nobody_into_test(tmp_path: Path) -> None:
    images = grey(300)
    images[100:200] = images[:100]
    data = open_data(images)
    sides = {name: as_set(data.rows(name)) for name in splits_names()}
    assert not sides["train"] & sides["test"] and not sides["train"] & sides["choose"]
    assert not sides["choose"] & sides["test"]
    assert data.facts["duplicates"] == 100
    more = open_data(np.concatenate([grey(50, seed=9), images]))
    for name in splits_names():
        assert sides[name] <= as_set(more.rows(name)), name


def splits_names() -> tuple[str, ...]:
    return ("train", "choose", "test")


def test_renamed_files_are_the_same_data(tmp_path: Path) -> None:
    images = grey(50)
    one = open_data(write(tmp_path / "one", images))
    order = np.random.default_rng(1).permutation(50)
    two = open_data(write(tmp_path / "two", images[order], names=[f"renamed{i:02d}" for i in range(50)]))
    assert one.hash == two.hash
    for name in splits_names():
        assert np.array_equal(one.rows(name), two.rows(name))
    assert not np.array_equal(one.x, two.x)


def test_large_sets_hold_out_at_most_five_thousand() -> None:
    digest = np.random.default_rng(0).integers(0, 2**64, (80_000, 2), dtype=np.uint64)
    parts, _ = splits.cut(digest, "set")
    assert 4_700 < len(parts["test"]) <= 5_000 and 4_700 < len(parts["choose"]) <= 5_000
    assert sum(map(len, parts.values())) == 80_000


def test_training_rows_that_repeat_the_official_test_set_are_left_out() -> None:
    digest = np.arange(80, dtype=np.uint64).reshape(40, 2) * np.uint64(2**57)
    digest[3] = digest[35]
    official = np.arange(40) >= 30
    parts, notes = splits.cut(digest, "set", official=official)
    assert sorted(parts["test"]) == list(range(30, 40)) and 3 not in np.concatenate([parts["train"], parts["choose"]])
    assert "left out" in notes[0]


def test_inspecting_first_does_not_decode_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`inspect` passes over bad files, `train` does not: without bad ones they share one cached set."""
    folder = write(tmp_path / "set", colour())
    first = open_data(folder, skip_bad=True)
    monkeypatch.setattr(assemble, "build", None)
    assert open_data(folder).hash == first.hash
    monkeypatch.undo()
    (folder / "bad.png").write_bytes(b"no picture")
    assert len(open_data(folder, skip_bad=True).x) == COUNT
    with pytest.raises(InputError, match=r"bad\.png"):
        open_data(folder)


def test_large_arrays_are_mapped(tmp_path: Path) -> None:
    """A mapped array goes into the cache piece by piece; what is trained on is mapped from there."""
    np.save(tmp_path / "x.npy", colour())
    for source in (tmp_path / "x.npy", np.load(tmp_path / "x.npy", mmap_mode="r")):
        assert isinstance(open_data(source).x, np.memmap)


def test_the_second_opening_comes_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "set", colour(), names=[f"{'ab'[i % 2]}/{i}" for i in range(COUNT)])
    first = open_data(folder)
    assert isinstance(first.x, np.memmap) and not first.x.flags.writeable
    with monkeypatch.context() as patch:
        patch.setattr(assemble, "_decode", lambda *_: pytest.fail("decoded again"))
        second = open_data(folder)
    assert second.hash == first.hash and second.notes == first.notes and second.label_names == first.label_names
    assert torch.equal(second.spaces["x"].mean, first.spaces["x"].mean)
    assert torch.equal(second.spaces["x"].deviation, first.spaces["x"].deviation)
    for name in splits_names():
        assert np.array_equal(first.splits[name], second.splits[name])
    batch = second.split("train").gather(np.arange(4))
    assert batch.x.shape == (4, 3, 6, 5) and batch.raw["label"].shape == (4, 1)
    assert open_data(folder, resolution=4).x.shape[2:] == (4, 3)
    Image.fromarray(colour(1, seed=8)[0]).save(folder / "a" / "new.png")
    assert len(open_data(folder).x) == COUNT + 1
    entries = cache.root() / "entries"
    assert not list(entries.glob("unfinished-*"))
    for entry in entries.iterdir():
        (entry / "x.npy").write_bytes(b"damaged")
    assert len(open_data(folder).x) == COUNT + 1


def test_statistics_in_chunks_equal_those_at_once() -> None:
    x = np.random.default_rng(0).normal(100, 3, (24, 2, 300, 400)).astype(np.float32)
    rows = np.arange(2, 22)
    space = fit_continuous(x, rows=rows)
    flat = x[rows].astype(np.float64)
    assert np.allclose(space.mean.numpy(), flat.mean((0, 2, 3)), rtol=1e-6)
    assert np.allclose(space.deviation.numpy(), flat.std((0, 2, 3)), rtol=1e-6)
    constant = fit_continuous(torch.full((4, 1, 2, 2), 7.0), low=0, high=255, levels=256)
    assert constant.deviation.tolist() == [1.0]


# Metadata -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_metadata_gives_labels_captions_and_numbers(tmp_path: Path, form: str) -> None:
    folder = write(tmp_path / "set", grey(20))
    rows = [
        {"file_name": f"{i:03d}.png", "label": "ab"[i % 2], "text": f"picture {i}", "age": i / 2} for i in range(19)
    ]
    rows[3]["age"] = "" if form == "csv" else None
    if form == "csv":
        lines = ["file_name,label,text,age"] + [",".join(str(v) for v in row.values()) for row in rows]
        (folder / "metadata.csv").write_text("\n".join(lines))
    else:
        (folder / "metadata.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    data = open_data(folder)
    assert data.label_names == ["a", "b"] and data.captions is not None and data.captions[5] == "picture 5"
    assert data.present["label"].tolist() == [True] * 19 + [False]
    assert data.conditions["age"].shape == (20, 1) and data.conditions["age"].dtype == np.float32
    assert not data.present["age"][3] and data.conditions["age"][4, 0] == 2
    assert set(data.spaces) == {"x", "label", "attributes"}
    assert any("age (number, with gaps)" in note for note in data.notes)
    assert outlook.inspect(folder).columns["age"] == "number, with gaps"
    assert open_data(folder).captions == data.captions


def test_floats_that_overshoot_are_clipped() -> None:
    """Bicubic resizing goes a little beyond its range: 1.003 makes no picture of 0 to 255 out of one of 0 to 1."""
    x = np.random.default_rng(0).random((20, 6, 6)).astype(np.float32)
    plain = open_data(x).x
    x[3, 2, 2], x[4, 1, 1] = 1.003, -0.004
    wanted = plain.copy()
    wanted[3, 0, 2, 2], wanted[4, 0, 1, 1] = 255, 0
    assert np.array_equal(open_data(x).x, wanted)
    assert np.array_equal(open_data(2 * x - 1).x, open_data(2 * np.clip(x, 0, 1) - 1).x)


@pytest.mark.parametrize("form", ["folders", "npz"])
def test_an_official_test_set_without_labels(tmp_path: Path, form: str) -> None:
    """Competitions hide them: a flat test folder, or -1."""
    if form == "folders":
        for number, image in enumerate(grey(40)):
            part = f"train/{'ab'[number % 2]}" if number < 30 else "test"
            (tmp_path / "set" / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(tmp_path / "set" / part / f"{number:03d}.png")
        data = open_data(tmp_path / "set")
    else:
        labels = np.arange(30) % 2
        np.savez(tmp_path / "x.npz", x_train=grey(40)[:30], y_train=labels, x_test=grey(40)[30:], y_test=[-1] * 10)
        data = open_data(tmp_path / "x.npz")
    assert len(data.splits["test"]) == 10 and len(data.label_names) == 2
    assert data.present["label"][data.splits["train"]].all() and not data.present["label"][data.splits["test"]].any()


def test_a_truncated_image_in_a_list(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", np.random.default_rng(0).integers(0, 255, (20, 40, 40)).astype(np.uint8))
    files = sorted(folder.glob("*.png"))
    files[3].write_bytes(files[3].read_bytes()[:-400])
    images = [Image.open(file) for file in files]
    with pytest.raises(InputError, match="damaged"):
        open_data(images)
    assert len(open_data([Image.open(file) for file in files], skip_bad=True).x) == 19


# Files that go out --------------------------------------------------------------------------------------------------


def test_save_read_and_picture(tmp_path: Path) -> None:
    data = open_data(colour())
    modality, x = data.modality, data.rows("train", 12)
    (array,) = modality.save(x, tmp_path / "x.npy")
    assert np.array_equal(np.load(array), x.transpose(0, 2, 3, 1))
    (picture,) = modality.save(x, tmp_path / "x.png")
    zoom = 64 // 6
    assert Image.open(picture).size == (4 * (5 * zoom + 2) - 2, 3 * (6 * zoom + 2) - 2)
    paths = modality.save(x, tmp_path / "many")
    assert [path.name for path in paths[:2]] == ["00000.png", "00001.png"]
    for source in (tmp_path / "many", tmp_path / "x.npy", np.load(array), paths[0]):
        back, names = modality.read(source, data.spaces["x"])
        assert np.array_equal(back, x[: len(back)]) and len(names) == len(back)
    assert len(modality.save(x[:2], tmp_path / "many")) == 2
    assert len(list((tmp_path / "many").glob("*.png"))) == 2  # nothing of the earlier twelve is left between them
    back, _ = modality.read(Image.fromarray(grey(1, (12, 10))[0]), data.spaces["x"])
    assert back.shape == (1, 3, 6, 5)
    again = Images.from_description(json.loads(json.dumps(modality.describe())))
    assert again.describe() == modality.describe()


def test_inspection(tmp_path: Path) -> None:
    folder = write(tmp_path / "set", colour(30), names=[f"{'ab'[i % 2]}/{i}" for i in range(30)])
    (folder / "a" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    seen = outlook.inspect(folder)
    text = seen.text()
    assert seen.labels == {"a": 15, "b": 15} and seen.examples == 30 and "compare" in seen.plan[0]
    assert "broken.png" in text and "--skip-bad" in text and "2: a 15, b 15" in text
    paths = seen.save(tmp_path / "look")
    assert json.loads(paths[1].read_text())["examples"] == 30 and Image.open(paths[2]).width > 100
    assert "points" in outlook.inspect("moons").text()


# Named sets ---------------------------------------------------------------------------------------------------------


def test_digits() -> None:
    data = open_data("digits")
    space = data.spaces["x"]
    assert data.x.shape == (1797, 1, 8, 8) and data.name == "digits" and data.label_names == list("0123456789")
    assert isinstance(space, Continuous) and (space.levels, space.high) == (17, 255)
    assert len(np.unique(data.x)) == 17 and data.x.max() == 255
    back = space.decode(space.embed(torch.from_numpy(data.x[:50])))
    assert np.array_equal(data.modality.export(back.numpy()), data.x[:50, 0])
    assert set(door.kinds()) >= {"image", "points"} and "digits" in door.named_sets()
    # Modalities that know no names are not imported for them: none that knows some may be overlooked.
    assert set(door.named_sets()) == {name for kind in door.kinds() for name in door.modality(kind).names}


@pytest.mark.parametrize("name", sorted(toys.TOYS))
def test_toy_densities_are_true(name: str) -> None:
    data = open_data(name)
    assert data.log_density is not None and data.x.dtype == np.float32 and data.x.shape[1] == 2
    side, cells = 4.0, 256
    axis = (np.arange(cells) + 0.5) / cells * 2 * side - side
    nodes = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(data.log_density(nodes)).reshape(cells, cells)
    assert abs(density.sum() * (2 * side / cells) ** 2 - 1) < 2e-3
    # The samples' share of coarse cells is that of the density, within sampling error (chi-squared per cell about 1).
    coarse = 32
    expected = density.reshape(coarse, 8, coarse, 8).sum((1, 3)) * (2 * side / cells) ** 2 * len(data.x)
    counted = np.histogram2d(data.x[:, 0], data.x[:, 1], bins=coarse, range=[[-side, side]] * 2)[0]
    filled = expected > 5
    statistic = ((counted - expected)[filled] ** 2 / expected[filled]).mean()
    assert statistic < 1.5, statistic
    if data.centres is not None:
        assert data.centres.shape == (8, 2)
    picture = data.modality.picture(data.x[:200], reference=data.x[:500])
    assert picture.size == (512, 512)


@pytest.mark.parametrize("splits", [False, True])
def test_a_dataset_of_hugging_face(splits: bool) -> None:
    """Image, class label and caption columns; a DatasetDict's own test split stays the test split."""
    datasets = pytest.importorskip("datasets", reason="an extra: pip install trilemma[datasets]")
    pictures = np.random.default_rng(5).integers(0, 256, (30, 9, 7, 3), dtype=np.uint8)
    columns = {
        "image": [Image.fromarray(one) for one in pictures],
        "label": [number % 3 for number in range(30)],
        "caption": [f"picture {number}" for number in range(30)],
    }
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b", "c"]), caption=datasets.Value("string")
    )
    source = datasets.Dataset.from_dict(columns, features=features)
    if splits:
        source = datasets.DatasetDict(train=source.select(range(24)), test=source.select(range(24, 30)))
    data = open_data(source)
    assert data.label_names == ["a", "b", "c"] and len(data.x) == 30
    of = {one.tobytes(): number % 3 for number, one in enumerate(pictures.transpose(0, 3, 1, 2))}
    assert [of[one.tobytes()] for one in np.asarray(data.x)] == data.conditions["label"].ravel().tolist()
    if splits:
        test = {data.x[row].tobytes() for row in data.splits["test"]}
        assert test == {one.tobytes() for one in pictures[24:].transpose(0, 3, 1, 2)}


def test_points_from_arrays(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(100, 3))
    data = open_data(x)
    assert data.modality.kind == "points" and data.spaces["x"].shape == (3,)
    np.savez(tmp_path / "p.npz", x=x, y=np.arange(100) % 2)
    assert open_data(tmp_path / "p.npz").label_names == ["0", "1"]
    data.modality.save(data.x[:5], tmp_path / "p.npy")
    back, names = data.modality.read(tmp_path / "p.npy", data.spaces["x"])
    assert np.array_equal(back, data.x[:5]) and len(names) == 5
    assert Points.from_description(data.modality.describe()).low == data.modality.describe()["low"]


class _Server(http.server.SimpleHTTPRequestHandler):
    """Serves files with ranges; `faults` says what goes wrong with the first requests for a file."""

    faults: dict[str, list[str]] = {}
    seen: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        name = self.path.rsplit("/", 1)[-1]
        asked = self.headers.get("Range")
        self.seen.append((name, asked))
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        fault = self.faults[name].pop(0) if self.faults.get(name) else ""
        if fault == "busy":
            self.send_error(503)
            return
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if fault == "broken":
            self.wfile.write(content[start : start + 100])
            self.close_connection = True
            return
        self.wfile.write(content[start:] if fault != "wrong" else bytes(len(content) - start))

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A local server with a small 'mnist', whose checksums are known."""
    write_mnist(tmp_path / "site" / "mnist")
    files = {path.name: download.checksum_of(path) for path in sorted((tmp_path / "site" / "mnist").iterdir())}
    monkeypatch.setitem(named.DOWNLOADS, "mnist", named.Remote(files, ("http://127.0.0.1:9/",)))
    monkeypatch.chdir(tmp_path)
    _Server.faults, _Server.seen = {}, []
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(_Server, directory=str(tmp_path / "site"))
    )
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("TRILEMMA_MIRROR", f"http://127.0.0.1:{server.server_address[1]}")
    yield _Server
    server.shutdown()
    server.server_close()


def test_download_retries_resumes_and_checks(mirror) -> None:
    mirror.faults = {
        "train-images-idx3-ubyte.gz": ["broken", "busy"],
        "t10k-images-idx3-ubyte.gz": ["wrong"],
    }
    data = open_data("mnist")
    assert len(data.x) == 60 and len(data.splits["test"]) == 20 and data.name == "mnist"
    asked = [range_ for name, range_ in mirror.seen if name == "train-images-idx3-ubyte.gz"]
    assert asked == [None, "bytes=100-", "bytes=100-"]
    count = len(mirror.seen)
    assert open_data("mnist").hash == data.hash and len(mirror.seen) == count


def test_download_with_a_wrong_checksum_leaves_nothing(mirror) -> None:
    mirror.faults = {"train-images-idx3-ubyte.gz": ["wrong"] * 9}
    with pytest.raises(InputError, match=r"wrong checksum.*put .*TRILEMMA_DATA"):
        open_data("mnist")
    assert not list((cache.root() / "downloads" / "mnist").glob("train-images*"))


def test_without_a_network_the_error_says_where_files_go(mirror, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRILEMMA_MIRROR", "http://127.0.0.1:9")
    with pytest.raises(InputError, match=r"put .*train-images-idx3-ubyte.gz.* into .*TRILEMMA_DATA"):
        open_data("mnist")
    monkeypatch.setenv("TRILEMMA_DATA", str(tmp_path / "site"))
    assert len(open_data("mnist").x) == 60


def test_cifar_comes_out_of_its_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    (tmp_path / "site" / "cifar10").mkdir(parents=True)
    archive = tmp_path / "site" / "cifar10" / "cifar-10-binary.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in named.DOWNLOADS["cifar10"].archive:
            rows = random.integers(0, 256, (10, 3073), dtype=np.uint8)
            rows[:, 0] = np.arange(10)
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = rows.size
            tar.addfile(member, io.BytesIO(rows.tobytes()))
    remote = named.DOWNLOADS["cifar10"]
    files = {archive.name: download.checksum_of(archive)}
    monkeypatch.setitem(named.DOWNLOADS, "cifar10", named.Remote(files, remote.mirrors, remote.archive))
    monkeypatch.setenv("TRILEMMA_MIRROR", (tmp_path / "site").as_uri())
    monkeypatch.chdir(tmp_path)
    data = open_data("cifar10")
    assert data.x.shape == (60, 3, 32, 32) and len(data.splits["test"]) == 10 and data.label_names[3] == "cat"


def test_settings_are_part_of_the_hash() -> None:
    images = grey(40, (16, 16))
    assert open_data(images).hash != open_data(images, resolution=8).hash
    assert open_data(images, opening=Opening(resolution=8)).hash == open_data(images, resolution="8").hash


def test_opened_data_are_handed_back_and_have_no_second_set() -> None:
    data = open_data(np.random.default_rng(0).integers(0, 255, (20, 8, 8), dtype=np.uint8))
    assert open_data(data) is data
    with pytest.raises(InputError, match="model=NAME"):
        open_data(data, data2="gan")
