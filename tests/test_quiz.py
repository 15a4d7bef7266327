"""The quiz of the page: its items, the clicks of a reader in a real browser, and several people's answers folded."""

from __future__ import annotations

import base64
import copy
import io
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import handed
from PIL import Image
from scipy import stats
from test_report_page import MODELS, picture, read, realistic, row, small_results

from trilemma import cli
from trilemma.errors import InputError
from trilemma.report.page import render
from trilemma.report.quiz import FEWEST, MOST, Share, difference, fold

SCRIPT = Path(__file__).resolve().parents[1] / "trilemma" / "report" / "templates" / "quiz.js"
COUNTS = [(0, 1), (1, 1), (0, 8), (3, 8), (8, 8), (17, 40), (63, 64), (200, 1000)]


def key_of(text: str) -> dict[str, Any]:
    return json.loads(base64.b64decode(re.findall(r'data-key="([^"]+)"', text)[0]))


def sheet_of(text: str) -> np.ndarray:
    """The sheet as (H, W) greys."""
    uri = re.findall(r'data-sheet="data:image/webp;base64,([^"]+)"', text)[0]
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri))).convert("L"))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str]:
    folder = tmp_path_factory.mktemp("quiz") / "digits"
    results = realistic(folder)
    return folder, results, render(folder, results, picture)


# --- the items -------------------------------------------------------------------------------------------------------


def test_a_third_to_half_of_the_pictures_are_real_and_models_are_alike(page: tuple[Path, Any, str]) -> None:
    key = key_of(page[2])
    names = [name for name, _ in key["sources"]]
    counts = {name: key["truth"].count(place) for place, name in enumerate(names)}
    assert names == ["real", *(name for name, *_ in MODELS)]
    assert len(key["truth"]) == key["items"] == sum(counts.values())
    assert 1 / 3 <= counts["real"] / key["items"] <= 1 / 2
    assert {8} == {count for name, count in counts.items() if name != "real"}
    assert key["families"] == ["autoencoder", "vae", "gan", "diffusion"]
    assert (key["title"], key["data_hash"]) == ("digits", "2c9fe1") and len(key["items_hash"]) == 16
    # Shuffled: no origin lies in one piece.
    assert sum(a != b for a, b in zip(key["truth"], key["truth"][1:], strict=False)) > key["items"] / 2


def test_the_sheet_holds_what_the_key_says(page: tuple[Path, Any, str]) -> None:
    """Each cell is the picture of its origin, from the end of that file, and no grid or strip shows it."""
    folder, results, text = page
    key, sheet = key_of(text), sheet_of(text)
    files = {"real": results["real"], **{entry["name"]: entry["samples"] for entry in results["rows"]}}
    found = {name: [] for name, _ in key["sources"]}
    for place, source in enumerate(key["truth"]):
        name = key["sources"][source][0]
        y, x = ((place // key["columns"]) * (key["height"] + key["gap"]),
                (place % key["columns"]) * (key["width"] + key["gap"]))  # fmt: skip
        cell = sheet[y : y + key["height"], x : x + key["width"]]
        array = np.load(folder / files[name])
        drawn = [np.asarray(picture(array[i : i + 1]).convert("L")) for i in range(len(array))]
        found[name] += [i for i, one in enumerate(drawn) if np.array_equal(one, cell)]
    for name, places in found.items():
        wanted = key["truth"].count([one for one, _ in key["sources"]].index(name))
        assert set(places) >= set(range(64 - wanted, 64)), name


def test_the_truth_is_not_to_be_read_at_a_glance(page: tuple[Path, Any, str]) -> None:
    text = page[2]
    (section,) = re.findall(r'<section id="quiz" (.*?)>', text)
    assert "hidden" in section and not any(f">{name}<" in section or f'"{name}"' in section for name, *_ in MODELS)
    assert read(text).scripts == 1 and text.count("data-sheet=") == 1
    assert f"{key_of(text)['items']} pictures one by one" in text


def test_the_same_comparison_makes_the_same_quiz_and_other_samples_another(
    tmp_path: Path, page: tuple[Path, Any, str]
) -> None:
    first = key_of(page[2])
    results = realistic(tmp_path / "again")
    assert key_of(render(tmp_path / "again", results, picture)) == first
    file = tmp_path / "again" / results["rows"][0]["samples"]
    changed = np.load(file)
    changed[-1] = 255 - changed[-1]
    np.save(file, changed)
    assert key_of(render(tmp_path / "again", results, picture))["items_hash"] != first["items_hash"]


def test_samples_from_elsewhere_are_in_the_quiz(page: tuple[Path, Any, str]) -> None:
    folder, results, _ = page
    rows = [dict(entry) for entry in results["rows"] if entry["kind"] == "model"][:2]
    rows[1] |= {"name": "theirs", "kind": "included", "family": "other", "seed": None}
    key = key_of(render(folder, {**results, "rows": rows}, picture))
    assert key["sources"][1:] == [[rows[0]["name"], rows[0]["family"]], ["theirs", "other"]]


def test_no_quiz_without_pictures_enough(tmp_path: Path, page: tuple[Path, Any, str]) -> None:
    folder, results, _ = page
    assert "data-key" not in render(folder, results | {"finished": False}, picture)  # it would change under the reader
    assert "data-key" not in render(folder, results, picture, limit=1)
    (tmp_path / "samples").mkdir()
    generator = np.random.default_rng(0)
    np.save(tmp_path / "samples" / "points.npy", generator.standard_normal((100, 2)).astype(np.float32))
    np.save(tmp_path / "samples" / "x.npy", generator.integers(0, 256, (64, 1, 8, 8), dtype=np.uint8))
    np.save(tmp_path / "samples" / "few.npy", generator.integers(0, 256, (FEWEST, 1, 8, 8), dtype=np.uint8))
    for file in ("samples/points.npy", "samples/few.npy"):
        entry = row("vae", frechet=5.0) | {"samples": file}
        assert "data-key" not in render(tmp_path, small_results([entry], real=file), picture)
    entry = row("vae", frechet=5.0) | {"samples": "samples/x.npy"}
    text = render(tmp_path, small_results([entry], real="samples/x.npy"), picture)
    key = key_of(text)
    assert key["truth"].count(1) == MOST and "data-family=" not in text  # one family: nothing to name
    little = render(tmp_path, small_results([entry], real="samples/few.npy"), picture)
    assert "data-key" not in little


# --- intervals -------------------------------------------------------------------------------------------------------


def exact(hits: int, of: int) -> tuple[float, float]:
    """Clopper and Pearson by the beta distribution, not by the function that `Share` calls."""
    low = float(stats.beta.ppf(0.025, hits, of - hits + 1)) if hits else 0.0
    return low, float(stats.beta.ppf(0.975, hits + 1, of - hits)) if hits < of else 1.0


@pytest.mark.parametrize(("hits", "of"), COUNTS)
def test_share_has_the_exact_interval(hits: int, of: int) -> None:
    assert Share(hits, of).interval() == pytest.approx(exact(hits, of), abs=1e-9)


def test_difference_is_newcombes() -> None:
    """Table II of Newcombe (1998), method 10."""
    assert difference(Share(56, 70), Share(48, 80)) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert difference(Share(9, 10), Share(3, 10)) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert difference(Share(10, 10), Share(0, 20)) == pytest.approx((0.6791, 1.0000), abs=5e-5)


def test_the_pages_interval_is_the_exact_one() -> None:
    if not shutil.which("node"):
        pytest.skip("node is not installed")
    code = SCRIPT.read_text(encoding="utf-8").split("(() => {")[0]
    code += f"console.log(JSON.stringify({json.dumps(COUNTS)}.map(([a, b]) => clopperPearson(a, b))))"
    done = subprocess.run(["node", "-e", code], capture_output=True, text=True, check=True, timeout=60)
    np.testing.assert_allclose(json.loads(done.stdout), [exact(*pair) for pair in COUNTS], atol=1e-9)


# --- in a browser ----------------------------------------------------------------------------------------------------

# A reader who takes every third picture for real by a click, names the first family by a key and the last by a click.
READER = """
<script>
const written = [];
window.Blob = function (parts) { written.push(parts.join("")); };
URL.createObjectURL = () => "data:,";
const wait = (time) => new Promise((done) => setTimeout(done, time));
addEventListener("load", async () => {
  const quiz = document.getElementById("quiz"), part = (name) => quiz.querySelector(`[data-part=${name}]`);
  const press = (key) => document.activeElement.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
  const seen = new Set(), canvas = quiz.querySelector("canvas");
  const before = [quiz.hidden, part("stage").hidden, part("after").hidden];
  part("start").click();
  while (part("stage").hidden) await wait(10);
  const families = [...quiz.querySelectorAll("[data-family]")], waiting = families.every((one) => one.disabled);
  press("1");  // no family is asked for yet
  const ignored = part("progress").textContent;
  for (let i = 0; i < STOP; i++) {
    seen.add(canvas.toDataURL());
    if (i % 3 === 0) part("real").click();
    else if (i % 3 === 1) { press("g"); press("1"); }
    else { part("generated").click(); families[families.length - 1].click(); }
  }
  if (STOP < ALL) part("stop").click();
  part("save").click();
  const rows = [...quiz.querySelectorAll("tbody tr")].map((one) => [...one.cells].map((cell) => cell.textContent));
  const intervals = COUNTS.map(([hits, of]) => clopperPearson(hits, of));
  const outcome = { before, waiting, ignored, rows, intervals, saved: JSON.parse(written[0]), seen: seen.size,
    score: part("score").textContent, wide: document.documentElement.scrollWidth, view: innerWidth };
  hand(outcome);
});
</script>
"""


def clicked(text: str, folder: Path, *, stop: int, width: int = 1280) -> dict[str, Any]:
    """The outcome of a reader who answers `stop` pictures of the page and saves the answers."""
    reader = READER.replace("STOP", str(stop)).replace("ALL", str(key_of(text)["items"]))
    reader = reader.replace("COUNTS", json.dumps(COUNTS))
    return handed(text.replace("</body>", reader + "</body>"), folder, width=width)


@pytest.mark.parametrize("width", [1280, 500])  # a headless window is no narrower than 500
def test_a_reader_clicks_through_the_quiz(tmp_path: Path, page: tuple[Path, Any, str], width: int) -> None:
    key = key_of(page[2])
    outcome = clicked(page[2], tmp_path, stop=key["items"], width=width)
    assert outcome["before"] == [False, True, True] and outcome["waiting"]
    assert outcome["ignored"] == f"Picture 1 of {key['items']}"
    assert outcome["wide"] <= outcome["view"], "the page is wider than its window"
    assert outcome["seen"] == len({*range(key["items"])}), "each picture is another one"
    np.testing.assert_allclose(outcome["intervals"], [exact(*pair) for pair in COUNTS], atol=1e-9)
    saved = outcome["saved"]
    answers = saved["answers"]
    assert sorted(answer["item"] for answer in answers) == list(range(key["items"]))
    assert [answer["item"] for answer in answers] != list(range(key["items"])), "the order is each reader's own"
    for place, answer in enumerate(answers):
        assert [answer["truth"], answer["family"]] == key["sources"][key["truth"][answer["item"]]]
        guessed = [("real", None), ("generated", "autoencoder"), ("generated", "diffusion")][place % 3]
        assert (answer["guess"], answer["family_guess"]) == guessed
        assert answer["milliseconds"] >= 0
    # The page's table is what `fold` makes of the saved file.
    (tmp_path / "quiz-answers.json").write_text(json.dumps(saved), encoding="utf-8")
    folded = fold([tmp_path / "quiz-answers.json"])
    entries = {"Real pictures": folded.real, **folded.families}
    assert [cells[0] for cells in outcome["rows"]] == list(entries)
    for name, taken, _, share, named in outcome["rows"]:
        entry = entries[name]
        assert taken == f"{entry['taken_for_real']} of {entry['shown']}"
        told = [int(figure) for figure in re.findall(r"\d+", share)]
        assert told == pytest.approx([100 * entry[end] for end in ("share", "low", "high")], abs=0.51)
        naming = entry.get("naming")
        assert named == (f"{naming['right']} of {naming['shown']}" if naming else "")
    assert f"{folded.real['taken_for_real']} of {folded.real['shown']} real ones" in outcome["score"]


def test_a_reader_may_stop_early(tmp_path: Path, page: tuple[Path, Any, str]) -> None:
    outcome = clicked(page[2], tmp_path, stop=5)
    assert len(outcome["saved"]["answers"]) == 5
    assert sum(int(cells[1].split(" of ")[1]) for cells in outcome["rows"] if " of " in cells[1]) == 5


# --- several people --------------------------------------------------------------------------------------------------


def answers(seed: int, *, real: float = 0.8, taken: dict[str, float] | None = None, count: int = 80) -> dict[str, Any]:
    """One person, who takes so much of each family for real and names families at random."""
    generator = np.random.default_rng(seed)
    taken = taken or {"vae": 0.1, "diffusion": 0.8}
    given = []
    for item in range(count):
        family = ["real", *taken][item % (1 + len(taken))]
        for_real = generator.random() < {"real": real, **taken}[family]
        given.append({
            "item": item, "truth": family, "family": family, "guess": "real" if for_real else "generated",
            "family_guess": None if for_real else str(generator.choice([*taken])), "milliseconds": 900 + item,
        })  # fmt: skip
    return {"format": 1, "title": "digits", "data_hash": "2c9fe1", "protocol_key": "k", "items_hash": "01234567",
            "items": count, "families": [*taken], "answers": given}  # fmt: skip


def saved(folder: Path, *records: Any) -> list[Path]:
    files = []
    for place, record in enumerate(records):
        files.append(folder / f"answers{place}.json")
        files[-1].write_text(record if isinstance(record, str) else json.dumps(record), encoding="utf-8")
    return files


def test_folding_counts_and_tells_what_can_be_told(tmp_path: Path) -> None:
    people = [answers(seed) for seed in range(3)]
    folded = fold(saved(tmp_path, *people))
    every = [answer for person in people for answer in person["answers"]]
    assert (folded.people, folded.answers) == (3, 240)
    for name, entry in {"real": folded.real, **folded.families}.items():
        own = [answer for answer in every if answer["family"] == name]
        hits = sum(answer["guess"] == "real" for answer in own)
        assert (entry["taken_for_real"], entry["shown"]) == (hits, len(own))
        assert (entry["low"], entry["high"]) == pytest.approx(exact(hits, len(own)), abs=1e-9)
    assert folded.families["vae"]["told_from_real"] and not folded.families["diffusion"]["told_from_real"]
    named = [answer for answer in every if answer["family_guess"] and answer["family"] != "real"]
    assert folded.naming["shown"] == len(named) and folded.naming["chance"] == 0.5
    assert folded.naming["right"] == sum(answer["family_guess"] == answer["family"] for answer in named)
    text = folded.text()
    assert "240 answers of 3 people" in text and "answers of one person are not independent" in text
    assert re.search(r"vae .* yes", text) and re.search(r"diffusion .* not by these answers", text)
    json.dumps(folded.record())


def test_from_five_people_on_their_spread_counts(tmp_path: Path) -> None:
    """Some see through a family and some do not: over all answers it can be told, over people it cannot."""
    divided = [answers(s, real=0.75, taken={"vae": 0.05 if s < 2 else 0.75, "gan": 0.1}) for s in range(5)]
    folded = fold(saved(tmp_path, *divided))
    pooled = [answer for person in divided for answer in person["answers"]]
    shares = [Share(sum(a["guess"] == "real" for a in own), len(own))
              for name in ("real", "vae") if (own := [a for a in pooled if a["family"] == name])]  # fmt: skip
    assert difference(*shares)[0] > 0 and not folded.families["vae"]["told_from_real"]
    assert folded.families["gan"]["told_from_real"]
    assert not any("independent" in note for note in folded.notes)


def test_unanswered_families_are_said(tmp_path: Path) -> None:
    only = answers(0)
    only["answers"] = [answer for answer in only["answers"] if answer["family"] == "vae"]
    folded = fold(saved(tmp_path, only))
    assert folded.real["share"] is None and folded.families["diffusion"]["told_from_real"] is None
    assert "nothing was answered about diffusion, real pictures" in folded.text()


def broken(**changes: Any) -> dict[str, Any]:
    return {**answers(1), **changes}


def broken_answer(**changes: Any) -> dict[str, Any]:
    record = copy.deepcopy(answers(1))
    record["answers"][3] |= changes
    return record


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ("{", "no JSON"),
        ("\xff\xfe", "no JSON"),
        ("[1]", "no answers of a quiz"),
        ({"rows": []}, "no answers of a quiz"),
        (broken(format=2), "format 2"),
        (broken(answers=[]), "no answer yet"),
        (broken(families="vae"), "damaged"),
        (broken(answers=[3]), "answer 1 is damaged"),
        (broken_answer(item=80), "none of the page's 80"),
        (broken_answer(item=2), "answered before"),
        (broken_answer(guess="perhaps"), "neither real nor generated"),
        (broken_answer(truth="vae", family="real"), "contradict"),
        (broken_answer(family="gan"), "none of the page's"),
        (broken_answer(guess="real", family_guess="vae"), "family_guess"),
        (broken_answer(milliseconds=float("nan")), "no duration"),
        (broken(title="others"), "of another page"),
        (broken(data_hash="f00"), "of another page"),
        (broken(protocol_key="k2"), "of another page"),
        (broken(items_hash="0"), "of another page"),
        (answers(0), "the same answers"),
        (broken_answer(truth="vae:bernoulli", family="vae"), "it was changed"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, record: Any, words: str) -> None:
    good, bad = saved(tmp_path, answers(0), record)
    with pytest.raises(InputError, match=words) as told:
        fold([good, bad])
    assert bad.name in str(told.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: No such file"):
        fold([tmp_path / "nowhere.json"])
    with pytest.raises(InputError, match="directory"):
        fold([tmp_path])
    with pytest.raises(InputError, match="no answers to fold"):
        fold([])


def test_measure_folds_files_on_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trilemma(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["trilemma", "measure", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return (end.value.code or 0, *capsys.readouterr())  # type: ignore[return-value]

    one, two, three, other = saved(tmp_path, answers(0), answers(1), answers(2), broken(title="others"))
    for words in (("--quiz", one, two, three), (one, two, "--quiz", three), ("--quiz", one, "--quiz", two, three)):
        code, out, _ = trilemma(*words)
        assert code == 0 and "240 answers of 3 people" in out
    code, out, _ = trilemma("--quiz", one, two, "--json")
    assert code == 0 and json.loads(out)["people"] == 2 and json.loads(out)["families"]["vae"]["shown"] > 0
    code, _, err = trilemma("--quiz", one, other)
    assert code == 2 and other.name in err and "another page" in err
    for words in ((), ("digits",), ("digits", "a.npy", "b.npy")):
        code, _, err = trilemma(*words)
        assert code == 2 and "two arguments, DATA and SAMPLES" in err and "--quiz" in err
