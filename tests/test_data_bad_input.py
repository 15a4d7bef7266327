"""Bad data end in one InputError that names the file or setting and the fix; nothing half-written is left."""

from __future__ import annotations

import errno
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trilemma.errors import InputError
from trilemma.modalities import assemble, cache, writing
from trilemma.modalities.door import open_data
from trilemma.spaces import Continuous

COUNT = 20
CASES: dict[str, tuple[Callable[[Path], object], tuple[str, ...], dict]] = {}


def case(*words: str, **settings) -> Callable:
    """Register a maker of bad input; the message must hold all of `words` (the file or setting, and the fix)."""

    def register(make: Callable[[Path], object]) -> Callable[[Path], object]:
        CASES[make.__name__] = (make, words, settings)
        return make

    return register


def grey(count: int = COUNT) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 6, 5), dtype=np.uint8)


def png(seed: int = 0, size: int = 6) -> bytes:
    memory = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)).save(memory, "PNG")
    return memory.getvalue()


def folder(path: Path, count: int = COUNT) -> Path:
    path = path / "photos"
    path.mkdir()
    for index in range(count):
        (path / f"{index:03d}.png").write_bytes(png(index))
    return path


def with_bad(path: Path, content: bytes, name: str = "bad.png") -> Path:
    made = folder(path)
    (made / name).write_bytes(content)
    return made


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


def npy(path: Path, array: np.ndarray, pickle: bool = False) -> Path:
    np.save(path / "set.npy", array, allow_pickle=pickle)
    return path / "set.npy"


# Paths and folders ----------------------------------------------------------------------------------------------------


@case("nowhere/photos", "check the path")
def missing_path(path: Path):
    return path / "nowhere" / "photos"


@case("photoz", "Did you mean", "photos")
def misspelt_path(path: Path):
    folder(path)
    return str(path / "photoz")


@case("digit", "Did you mean 'digits'")
def misspelt_name(path: Path):
    return "digit"


@case("no data given", "digits")
def empty_name(path: Path):
    return "  "


@case("zero byte", "check the path")
def zero_byte_in_a_path(path: Path):
    return "a\0b"


@case("cannot be read", "check the path")
def path_far_too_long(path: Path):
    return "x" * 5000 + "/y"


@case("photos", "folder is empty", "name the folder")
def empty_folder(path: Path):
    return folder(path, 0)


@case("photos", "no image", "3 .txt", "name the folder")
def folder_without_images(path: Path):
    made = folder(path, 0)
    for index in range(3):
        (made / f"{index}.txt").write_text("words")
    return made


@case("photos", "folder is empty")
def only_hidden_files(path: Path):
    made = folder(path, 0)
    (made / ".cover.png").write_bytes(png())
    return made


@case("photos", "only 15 examples", "at least 16", "add more")
def fifteen_images(path: Path):
    return folder(path, 15)


@case("photo.png", "single image", "give the folder")
def a_single_image(path: Path):
    (path / "photo.png").write_bytes(png())
    return path / "photo.png"


@case("words.txt", "known", "--kind")
def a_text_file(path: Path):
    (path / "words.txt").write_text("words")
    return path / "words.txt"


@case("photos", "distinct", "add different")
def twenty_equal_images(path: Path):
    made = folder(path, 0)
    for index in range(COUNT):
        (made / f"{index}.png").write_bytes(png())
    return made


@case("photos", "test folder", "zebra", "match")
def held_out_folder_with_a_new_label(path: Path):
    made = path / "photos"
    for index in range(COUNT):
        place = made / ("test/zebra" if index > 15 else f"train/{'ab'[index % 2]}")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{index}.png").write_bytes(png(index))
    return made


# Image files ----------------------------------------------------------------------------------------------------------


@case("bad.png", "truncated", "1 of 21", "--skip-bad")
def truncated_png(path: Path):
    return with_bad(path, png(1, 64)[:2000])


@case("bad.jpg", "truncated", "--skip-bad")
def truncated_jpeg(path: Path):
    memory = io.BytesIO()
    Image.effect_noise((64, 64), 90).save(memory, "JPEG")
    return with_bad(path, memory.getvalue()[:1500], "bad.jpg")


@case("bad.png", "web page (HTML)", "--skip-bad")
def html_named_png(path: Path):
    return with_bad(path, b"<!DOCTYPE html><html><body>404</body></html>")


@case("bad.png", "0 bytes", "--skip-bad")
def zero_bytes(path: Path):
    return with_bad(path, b"")


@case("bad.png", "not an image", "--skip-bad")
def text_named_png(path: Path):
    return with_bad(path, b"just some words that are no image")


@case("bad.png", "Git LFS", "--skip-bad")
def git_lfs_pointer(path: Path):
    return with_bad(path, b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")


@case("bad.png", "damaged", "--skip-bad")
def flipped_bytes(path: Path):
    content = bytearray(png(1, 64))
    content[40:60] = bytes(20)
    return with_bad(path, bytes(content))


@case("bad.png", "bomb", "--skip-bad")
def pixel_bomb(path: Path):
    content = bytearray(png())
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    import zlib

    content[29:33] = struct.pack(">I", zlib.crc32(bytes(content[12:29])))
    return with_bad(path, bytes(content))


@case("bad.tif", "floats", "--skip-bad")
def float_tiff(path: Path):
    made = folder(path)
    Image.fromarray(np.random.default_rng(0).normal(size=(6, 6)).astype(np.float32)).save(made / "bad.tif")
    return made


@case("bad.png", "link", "--skip-bad")
def dangling_link(path: Path):
    made = folder(path)
    (made / "bad.png").symlink_to(path / "gone.png")
    return made


@case("20 of 20", "and 10 more", "--skip-bad")
def all_unreadable(path: Path):
    made = folder(path, 0)
    for index in range(COUNT):
        (made / f"{index}.png").write_bytes(b"no image")
    return made


@case("only 10 examples", "add more", skip_bad=True)
def too_few_left_after_skipping(path: Path):
    made = folder(path, 10)
    for index in range(10):
        (made / f"bad{index}.png").write_bytes(b"no image")
    return made


# Archives -------------------------------------------------------------------------------------------------------------


def packed(path: Path, members: dict[str, bytes], **settings) -> Path:
    target = path / "set.zip"
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return target


def images_and(name: str) -> dict[str, bytes]:
    return {**{f"{i}.png": png(i) for i in range(COUNT)}, name: png(99)}


@case("set.zip", "unsafe name", "../evil.png", "pack it again")
def zip_leading_outside(path: Path):
    return packed(path, images_and("../evil.png"))


@case("set.zip", "unsafe name", "/etc/evil.png", "pack it again")
def zip_with_an_absolute_name(path: Path):
    return packed(path, images_and("/etc/evil.png"))


@case("set.zip", "unsafe name", "evil.png", "pack it again")
def zip_with_a_drive(path: Path):
    return packed(path, images_and("C:\\evil.png"))


@case("set.zip", "link", "pack the file itself")
def zip_with_a_link(path: Path):
    target = packed(path, images_and("z.png"))
    with zipfile.ZipFile(target, "a") as archive:
        member = zipfile.ZipInfo("link.png")
        member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    return target


@case("set.zip", "bomb", "unpack it yourself")
def zip_bomb(path: Path):
    return packed(path, images_and("a.png") | {"bomb.png": bytes(64 << 20)})


@case("set.zip", "no archive", "download it again")
def zip_that_is_none(path: Path):
    (path / "set.zip").write_bytes(b"not a zip at all" * 10)
    return path / "set.zip"


@case("set.zip", "download it again")
def truncated_zip(path: Path):
    target = packed(path, images_and("a.png"))
    target.write_bytes(target.read_bytes()[:-200])
    return target


@case("set.zip", "no image", "name the folder")
def zip_without_images(path: Path):
    return packed(path, {"a.txt": b"words"})


@case("set.zip", "10.png", "not an image", "--skip-bad")
def zip_with_a_broken_image(path: Path):
    return packed(path, images_and("a.png") | {"10.png": b"no image"})


@case("set.zip", "no folder 'dogs'", "cats")
def missing_folder_in_a_zip(path: Path):
    return packed(path, {f"cats/{i}.png": png(i) for i in range(COUNT)}) / "dogs"


def tarred(path: Path, name: str, *, link: str | None = None) -> Path:
    target = path / "set.tar.gz"
    with tarfile.open(target, "w:gz") as archive:
        for index in range(COUNT):
            member = tarfile.TarInfo(f"{index}.png")
            content = png(index)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        member = tarfile.TarInfo(name)
        if link is not None:
            member.type, member.linkname = tarfile.SYMTYPE, link
        archive.addfile(member)
    return target


@case("set.tar.gz", "unsafe name", "pack it again")
def tar_leading_outside(path: Path):
    return tarred(path, "a/../../evil.png")


@case("set.tar.gz", "link", "pack the file itself")
def tar_with_a_link(path: Path):
    return tarred(path, "link.png", link="/etc/passwd")


@case("set.tar.gz", "download it again")
def truncated_tar(path: Path):
    target = tarred(path, "a.png")
    target.write_bytes(target.read_bytes()[:1000])
    return target


@case("set.tar", "no archive", "download it again")
def tar_that_is_none(path: Path):
    (path / "set.tar").write_bytes(b"no tar" * 200)
    return path / "set.tar"


# Arrays ---------------------------------------------------------------------------------------------------------------


@case("set.npy", "Python objects", "np.save")
def object_array(path: Path):
    return npy(path, np.array([{"a": 1}] * 20, dtype=object), pickle=True)


@case("set.npz", "Python objects")
def object_array_in_npz(path: Path):
    np.savez(path / "set.npz", x=np.array([{"a": 1}] * 20, dtype=object))
    return path / "set.npz"


@case("NaN", "example 3", "remove or replace")
def not_a_number(path: Path):
    x = grey() / 255.0
    x[3, 2, 2] = np.nan
    return x


@case("set.npy", "infinite", "remove or replace")
def infinite(path: Path):
    x = grey() / 255.0
    x[0, 0, 0] = np.inf
    return npy(path, x)


@case("NaN", "example 7")
def nan_among_points(path: Path):
    x = np.random.default_rng(0).normal(size=(50, 2))
    x[7, 1] = np.nan
    return x


@case("array", "non-empty")
def empty_array(path: Path):
    return np.zeros((0, 8, 8), np.uint8)


@case("array", "shape (20,)", "(N, H, W")
def one_dimension(path: Path):
    return np.arange(20)


@case("set.npy", "shape (2, 3, 4, 5, 6)", "(N, H, W")
def five_dimensions(path: Path):
    return npy(path, np.zeros((2, 3, 4, 5, 6)))


@case("array", "(20, 6, 5, 7)", "channels")
def seven_channels(path: Path):
    return np.zeros((20, 6, 5, 7), np.uint8)


@case("array", "shape (3000,)", "--kind series")
def one_row_of_numbers(path: Path):
    return np.arange(3000.0)


@case("array", "one image", "--kind series")
def one_colour_image(path: Path):
    return np.zeros((112, 92, 3), np.uint8)


@case("array", "784", "(N, height, width)")
def flattened_images(path: Path):
    return np.random.default_rng(0).normal(size=(50, 784))


@case("array", "rescale", "--kind series")
def strange_range(path: Path):
    return np.random.default_rng(0).normal(0, 1000, size=(20, 6, 5))


@case("array", "rescale", "--kind series")
def negative_integers(path: Path):
    return grey().astype(np.int32) - 300


@case("array", "complex", "uint8")
def complex_numbers(path: Path):
    return grey().astype(complex)


@case("array", "different shapes", "one shape")
def ragged_list(path: Path):
    return [np.zeros((6, 5), np.uint8)] * 10 + [np.zeros((7, 5), np.uint8)] * 10


@case("list is empty", "16 images")
def empty_list(path: Path):
    return []


@case("only 3 examples", "add more")
def three_pictures(path: Path):
    return [Image.fromarray(image) for image in grey(3)]


@case("mixes images", "images only")
def list_of_images_and_others(path: Path):
    return [Image.fromarray(image) for image in grey(3)] + ["a path"]


@case("array", "dict", "path")
def something_else(path: Path):
    return {"a": "b"}


@case("array", "NaN")
def tensor_with_nan(path: Path):
    return torch.full((20, 1, 8, 8), torch.nan)


@case("set.npy", "damaged", "np.save")
def npy_that_is_none(path: Path):
    (path / "set.npy").write_bytes(b"no numpy file")
    return path / "set.npy"


@case("set.npy", "0 bytes")
def empty_npy(path: Path):
    (path / "set.npy").write_bytes(b"")
    return path / "set.npy"


@case("set.npy", "damaged", "np.save")
def truncated_npy(path: Path):
    target = npy(path, grey())
    target.write_bytes(target.read_bytes()[:300])
    return target


@case("set.npz", "damaged", "np.save")
def npz_that_is_none(path: Path):
    (path / "set.npz").write_bytes(b"PK no zip" * 9)
    return path / "set.npz"


@case("set.npz", "no array", "'x'")
def npz_without_images(path: Path):
    return npz(path, a=np.arange(5))


@case("set.npz", "it holds nothing", "'x'")
def npz_without_anything(path: Path):
    return npz(path)


@case("19", "20 examples", "one label per example")
def labels_too_few(path: Path):
    return npz(path, x=grey(), y=np.arange(19))


@case("labels", "20 examples", "one label per example")
def labels_too_many_in_memory(path: Path):
    return grey(), np.arange(25)


@case("fractions", "mend")
def labels_with_fractions(path: Path):
    return grey(), np.arange(20) / 2


@case("set.npz", "labels", "(7)", "match")
def held_out_labels_unknown_to_training(path: Path):
    y = np.arange(20) % 2
    return npz(path, x_train=grey(), y_train=y, x_test=grey(5), y_test=np.full(5, 7))


@case("set.npz", "label", "both or neither")
def labels_for_training_only(path: Path):
    return npz(path, x_train=grey(), y_train=np.arange(20) % 2, x_test=grey(5))


@case("set.npz", "one shape")
def held_out_images_of_another_shape(path: Path):
    return npz(path, x_train=grey(), x_test=np.zeros((5, 9, 9), np.uint8))


# IDX ------------------------------------------------------------------------------------------------------------------


def idx(path: Path, content: bytes, name: str = "train-images-idx3-ubyte") -> Path:
    (path / name).write_bytes(content)
    return path / name


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


@case("train-images-idx3-ubyte", "bad magic", "download it again")
def idx_with_bad_magic(path: Path):
    return idx(path, b"\x12\x34\x08\x03" + bytes(100))


@case("train-images-idx3-ubyte.gz", "truncated", "download it again")
def truncated_idx_gz(path: Path):
    return idx(path, gzip.compress(idx_bytes(grey()))[:300], "train-images-idx3-ubyte.gz")


@case("train-images-idx3-ubyte", "should hold", "download it again")
def idx_too_short(path: Path):
    return idx(path, idx_bytes(grey())[:-10])


@case("train-images-idx3-ubyte", "terabyte", "download it again")
def idx_declaring_far_too_much(path: Path):
    return idx(path, struct.pack(">HBBIII", 0, 8, 3, 2**31, 2**31, 2**31))


@case("train-images-idx3-ubyte.gz", "HTML")
def idx_that_is_a_web_page(path: Path):
    return idx(path, b"<html>404</html>", "train-images-idx3-ubyte.gz")


@case("train-labels-idx1-ubyte", "one label per example")
def idx_labels_of_another_number(path: Path):
    idx(path, idx_bytes(np.zeros(7, np.uint8)), "train-labels-idx1-ubyte")
    return idx(path, idx_bytes(grey())).parent


# Metadata -------------------------------------------------------------------------------------------------------------


def with_table(path: Path, text: str, name: str = "metadata.csv", encoding: str = "utf-8") -> Path:
    made = folder(path)
    (made / name).write_bytes(text.encode(encoding))
    return made


@case("metadata.csv", "not there", "gone.png", "remove their rows")
def metadata_of_missing_files(path: Path):
    return with_table(path, "file_name,label\n000.png,a\ngone.png,b\n")


@case("metadata.csv", "'file_name'", "filename")
def metadata_without_file_name(path: Path):
    return with_table(path, "filename,label\n000.png,a\n")


@case("metadata.csv", "line 3", "mend")
def metadata_with_a_short_line(path: Path):
    return with_table(path, "file_name,label,age\n000.png,a,1\n001.png\n")


@case("metadata.csv", "two rows", "keep one")
def metadata_with_a_file_twice(path: Path):
    return with_table(path, "file_name,label\n000.png,a\n000.png,b\n")


@case("metadata.csv", "UTF-8")
def metadata_in_latin_one(path: Path):
    return with_table(path, "file_name,label\n000.png,käse\n", encoding="latin-1")


@case("metadata.jsonl", "line 2", "JSON")
def metadata_that_is_no_json(path: Path):
    return with_table(path, '{"file_name": "000.png"}\n{oops\n', "metadata.jsonl")


@case("metadata.jsonl", "file_name")
def metadata_line_without_file_name(path: Path):
    return with_table(path, '{"label": 1}\n', "metadata.jsonl")


# Settings -------------------------------------------------------------------------------------------------------------


@case("--resolution", "'large'", "(32)", resolution="large")
def resolution_in_words(path: Path):
    return "digits"


@case("--resolution", "0", resolution=0)
def resolution_zero(path: Path):
    return "digits"


@case("--resolution", "-8", resolution=-8)
def resolution_negative(path: Path):
    return "digits"


@case("--resolution", "100000", resolution="100000x8")
def resolution_far_too_large(path: Path):
    return "digits"


@case("--resolution", "leave it out", resolution=32)
def resolution_of_points(path: Path):
    return "moons"


@case("'stretch'", "crop, pad", fit="stretch")
def unknown_fit(path: Path):
    return "digits"


@case("'imgae'", "Did you mean 'image'", kind="imgae")
def unknown_kind(path: Path):
    return "digits"


@case("--kind points", "leave it out", kind="points")
def wrong_kind(path: Path):
    return "digits"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "cache"))


def nothing_half_written() -> None:
    entries = cache.root() / "entries"
    assert not entries.exists() or not list(entries.iterdir())


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_clear_error(name: str, tmp_path: Path) -> None:
    make, words, settings = CASES[name]
    source = make(tmp_path)
    with pytest.raises(InputError) as caught:
        open_data(source, **settings)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    nothing_half_written()


def test_there_are_sixty_cases() -> None:
    assert len(CASES) >= 60


def test_skip_bad_goes_on_and_says_so(tmp_path: Path) -> None:
    made = with_bad(tmp_path, b"no image")
    data = open_data(made, skip_bad=True)
    assert len(data.x) == COUNT and any("left out" in note for note in data.notes)
    assert data.facts["unreadable"] == [["bad.png", "not an image, or damaged"]]


def refuse(kind: int) -> Callable:
    def fail(*_: object, **__: object) -> None:
        raise OSError(kind, os.strerror(kind))

    return fail


@pytest.mark.parametrize("where", ["posix_fallocate", "rename", "replace"])
def test_a_full_disk_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    made = folder(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(os, where, refuse(errno.ENOSPC))
        with pytest.raises(InputError, match=r"disk is full.*TRILEMMA_CACHE"):
            open_data(made)
    assert not list((cache.root() / "entries").glob("unfinished-*"))
    assert len(open_data(made).x) == COUNT


def test_data_larger_than_the_disk_are_refused_before_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder(tmp_path)
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 100})())
    with pytest.raises(InputError, match=r"do not fit.*--resolution.*TRILEMMA_CACHE"):
        open_data(made)
    nothing_half_written()


def test_a_cache_that_cannot_be_written_names_its_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder(tmp_path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TRILEMMA_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"TRILEMMA_CACHE"):
        open_data(made)


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder(tmp_path)
    monkeypatch.setattr(assemble.decode, "header_of", refuse(errno.EACCES))
    with pytest.raises(InputError, match=r"000.png.*no permission.*--skip-bad"):
        open_data(made)


def test_an_unreadable_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = folder(tmp_path)
    real = os.scandir

    def scandir(path):
        if "photos" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(InputError, match=r"photos: no permission"):
        open_data(made)


@pytest.mark.parametrize("source", ["digits", "moons"])
def test_outputs_never_replace_something_else(tmp_path: Path, source: str) -> None:
    data = open_data(source)
    x = data.rows("train", 3)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=r"file: is a file.*choose another"):
        data.modality.save(x, tmp_path / "file")
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "00000.png").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"holiday: this folder holds something else.*00000.png"):
        data.modality.save(x, tmp_path / "holiday")
    assert (tmp_path / "holiday" / "00000.png").read_bytes() == b"mine"
    (tmp_path / "x.npy").mkdir()
    with pytest.raises(InputError, match=r"x.npy: is a folder"):
        data.modality.save(x, tmp_path / "x.npy")
    with pytest.raises(InputError, match=r"cannot be written|permission"):
        data.modality.save(x, tmp_path / "file" / "below" / "x.npy")


def test_a_full_disk_while_saving(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = open_data("digits")
    monkeypatch.setattr(writing.os, "replace", refuse(errno.ENOSPC))
    for name in ("x.npy", "x.png", "many"):
        with pytest.raises(InputError, match=r"disk is full"):
            data.modality.save(data.rows("train", 3), tmp_path / name)
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".npy", ".png")]


def test_reading_inputs_of_a_task(tmp_path: Path) -> None:
    data = open_data("digits")
    space = data.spaces["x"]
    (tmp_path / "bad.png").write_bytes(b"no image")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"bad.png.*not an image"):
        data.modality.read(tmp_path / "bad.png", space)
    with pytest.raises(InputError, match=r"empty.png: is empty"):
        data.modality.read(tmp_path / "empty.png", space)
    with pytest.raises(InputError, match=r"gone.png: no such file"):
        data.modality.read(tmp_path / "gone.png", space)
    with pytest.raises(InputError, match=r"NaN"):
        data.modality.read(np.full((1, 8, 8), np.nan), space)
    points = open_data("moons")
    with pytest.raises(InputError, match=r"rows of 3 numbers"):
        points.modality.read(np.zeros((4, 3)), points.spaces["x"])
    assert isinstance(space, Continuous)
