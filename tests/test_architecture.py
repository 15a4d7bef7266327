"""The house rules that a program can check: what imports what, how long files are, which idioms stay out."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "trilemma"

# From the roof to the cellar: a layer imports from itself and from below only.
LAYERS = (
    "__main__",
    "cli",
    "cli_tasks",
    "report",
    "tasks",
    "training",
    "metrics",
    "models",
    "denoising",
    "conditions",
    "networks",
    "modalities",
    "batches",
    "impressions",
    "latent",
    "mixed",
    "words",
    "numbered",
    "borrowed",
    "spaces",
    "maths",
    "config",
    "errors",
)
# What the order alone would allow: models know nothing of files, and data knows nothing of models.
APART = {"models": {"modalities"}, "networks": {"modalities"}, "metrics": {"models", "networks", "modalities"}}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def modules(*folders: str) -> list[Path]:
    """Files of the package (or of these folders in it)."""
    places = [PACKAGE / folder for folder in folders] or [PACKAGE]
    return sorted(path for place in places for path in place.rglob("*.py"))


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str | None:
    """'trilemma.models.vae' -> 'models'; the package itself has no layer, everybody may ask for its version."""
    parts = module.split(".")
    return parts[1] if parts[0] == "trilemma" and len(parts) > 1 else None


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of every import of the package, those inside functions too."""
    known = {name_of(other) for other in modules()}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name.split(".")[0] == "trilemma")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import; write the whole name"
            if node.module and node.module.split(".")[0] == "trilemma":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield node.lineno, inner if inner in known else node.module


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"


def report(faults: list[str]) -> None:
    assert not faults, "\n" + "\n".join(faults)


# --- What imports what ------------------------------------------------------------------------------------------------


def test_every_module_has_a_layer() -> None:
    layers = {layer_of(name_of(path)) for path in modules()} - {None}
    assert layers <= set(LAYERS), f"no layer for {layers - set(LAYERS)}: give it its place in LAYERS"


def test_imports_point_downward() -> None:
    faults = []
    for path in modules():
        here = layer_of(name_of(path))
        for line, module in imports(path):
            there = layer_of(module)
            if here is None or there is None or there not in LAYERS:
                continue
            if LAYERS.index(there) < LAYERS.index(here):
                faults.append(f"{place(path, line)}: {here} imports {module}, which is above it")
            if there in APART.get(here, ()):
                faults.append(f"{place(path, line)}: {here} imports {module}; {here} and {there} are strangers")
    report(faults)


def test_no_import_goes_in_a_circle() -> None:
    graph = {name_of(path): {module for _, module in imports(path)} for path in modules()}
    done: set[str] = set()

    def visit(name: str, way: tuple[str, ...]) -> None:
        assert name not in way, "imports go in a circle: " + " -> ".join([*way[way.index(name) :], name])
        if name not in done:
            for other in sorted(graph.get(name, ())):
                visit(other, (*way, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)


def test_import_does_not_load_torch() -> None:
    done = run("import sys, trilemma; print(trilemma.__version__, 'torch' in sys.modules)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-1] == "False", "import trilemma imports torch"


def test_training_starts_without_what_only_reports_need() -> None:
    done = run(
        "import sys, trilemma.training.start, trilemma.tasks.load\n"
        "heavy = {'scipy', 'sklearn', 'pandas', 'matplotlib', 'jinja2', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert done.returncode == 0, done.stderr


def test_garbage_is_first_collected_when_all_is_imported() -> None:
    done = run(
        "import gc, trilemma\n"
        "usual, began = gc.get_threshold(), gc.get_stats()\n"
        "trilemma.train\n"
        "assert gc.get_stats() == began, 'collected while torch was imported'\n"
        "gc.collect()\n"
        "assert gc.get_threshold() == usual and not gc.callbacks\n"
        "trilemma.collect_late()\n"
        "assert gc.get_threshold() == usual, 'all is there already'\n"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("model", ["vae", "gan", "diffusion"])
def test_pictures_are_learned_without_what_only_choices_and_tables_need(model: str, tmp_path: Path) -> None:
    """From opening them to finished weights, mixtures of codes and clusters of examples included; not what it shows."""
    source = "'digits'" if model == "vae" else "np.random.default_rng(0).integers(0, 255, (300, 8, 8)).astype(np.uint8)"
    own = "{}" if model == "vae" else "{'clusters': 3}"
    done = run(
        "import sys\nimport numpy as np\nimport trilemma as tl\nfrom trilemma.training.preview import Preview\n"
        "Preview.show = lambda self, loop: []\n"
        f"settings = {{'training.choose_samples': 0, 'training.previews': 0, **{own}}}\n"
        f"out = {str(tmp_path / 'run')!r}\n"
        f"tl.train({source}, model={model!r}, size='xs', budget=128, settings=settings, out=out, quiet=True)\n"
        "heavy = {'scipy', 'sklearn', 'pandas', 'matplotlib', 'jinja2', 'rich', 'torch._dynamo'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "weights.safetensors").is_file()


@pytest.mark.skipif(not (PACKAGE / "cli.py").exists(), reason="there is no command line yet")
@pytest.mark.parametrize("verb", [[], ["train"], ["generate"]], ids=" ".join)
def test_help_does_not_load_torch(verb: list[str]) -> None:
    done = run(
        "import sys\n"
        f"sys.argv = ['trilemma', *{verb}, '--help']\n"
        "from trilemma.cli import main\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'numpy', 'scipy', 'sklearn', 'pandas', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert done.returncode == 0, done.stderr
    assert "--help" in done.stdout


# --- The tree in the README -------------------------------------------------------------------------------------------


def shown_tree() -> set[str]:
    """Files in the README's tree: `  folder/  purpose`, then, deeper, the names of its files without `.py`."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(r"^```text\ntrilemma/\n(.*?)^```", text, re.M | re.S)
    assert block, "README.md has no block ```text that begins with trilemma/"
    files, folder = set(), ""
    for line in block[1].splitlines():
        first = line.split()[0]
        if line.startswith("   "):
            files |= {f"{folder}{stem}.py" for stem in line.split()}
        elif first.endswith("/"):
            folder = first
        else:
            files.add(first)
    return files


def test_readme_shows_the_tree_on_disk() -> None:
    disk = {str(path.relative_to(PACKAGE)) for path in modules() if path.name not in ("__init__.py", "__main__.py")}
    shown = shown_tree()
    assert shown == disk, f"only on disk: {sorted(disk - shown)}; only in README.md: {sorted(shown - disk)}"


# --- How long things are ----------------------------------------------------------------------------------------------


def test_line_budgets() -> None:
    """Budgets warn: a file over its budget is worth a look, not a broken build."""
    for path in modules():
        lines, folder = len(path.read_text(encoding="utf-8").splitlines()), path.parent.name
        bases = [ast.unparse(b) for node in tree(path).body if isinstance(node, ast.ClassDef) for b in node.bases]
        short = folder == "models" or "Modality" in bases or path.name == "loop.py"
        if lines > (250 if short else 500):
            warnings.warn(f"{place(path, lines)}: {lines} lines, budget {250 if short else 500}", stacklevel=1)
    samplers = PACKAGE / "maths" / "samplers.py"
    for node in tree(samplers).body:
        if isinstance(node, ast.FunctionDef) and node.end_lineno and node.end_lineno - node.lineno >= 40:
            warnings.warn(f"{place(samplers, node.lineno)}: {node.name} has over 40 lines", stacklevel=1)


# --- Idioms that stay out ---------------------------------------------------------------------------------------------

FORBIDDEN = {
    r"\[:, None, None, None\]": "any number of dimensions: maths/shapes.py has expand(t, x)",
    r"dim=\(1, 2, 3\)": "any number of dimensions: maths/shapes.py has mean_per_example(x)",
    r"/ ?127\.5": "units are the Space's business",
    r"\bpickle\.loads?\(": "loading must not run code: safetensors and JSON",
    r"\btorch\.load\((?!.*weights_only=True)": "loading must not run code: safetensors and JSON",
    r"allow_pickle=True": "loading must not run code",
    r"^\s*(import|from) torchvision": "it must not be needed",
}


def test_forbidden_idioms() -> None:
    faults = []
    for path in [*modules(), *sorted((ROOT / "examples").rglob("*.ipynb"))]:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for pattern, reason in FORBIDDEN.items():
                if re.search(pattern, line):
                    faults.append(f"{place(path, number)}: {line.strip()} ({reason})")
    report(faults)


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree(path)):
        line = getattr(node, "lineno", 0)
        for field in ("id", "attr", "arg", "name"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield line, value


def test_models_do_not_know_what_an_image_is() -> None:
    allowed = {"images"}  # of `Matches`: the literature's word for what has a caption, whatever its grid
    found = [
        f"{place(path, line)}: {name}: a model sees Spaces of any grid"
        for path in modules("models")
        for line, name in identifiers(path)
        if "image" in name.lower() and name not in allowed
    ]
    report(found)


def yields_inside_with(node: ast.AST, inside: bool = False) -> Iterator[int]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Yield | ast.YieldFrom) and inside:
            yield child.lineno
        function = isinstance(child, ast.FunctionDef | ast.Lambda)
        yield from yields_inside_with(child, not function and (inside or isinstance(child, ast.With)))


def test_no_yield_inside_with_in_models() -> None:
    """The loop steps between two yields: a context left open would reach into the optimizer."""
    report([place(path, line) for path in modules("models") for line in yields_inside_with(tree(path))])


def test_the_checkers_find_what_they_look_for() -> None:
    bad = ast.parse("def losses():\n    with frozen():\n        for k in x:\n            yield k\n")
    good = ast.parse("def losses():\n    with frozen():\n        def f():\n            yield 1\n    yield 2\n")
    assert list(yields_inside_with(bad)) == [4] and list(yields_inside_with(good)) == []
    assert re.search(next(iter(FORBIDDEN)), "x = t[:, None, None, None] * y")
    assert layer_of("trilemma.models.vae") == "models" and layer_of("torch.nn") is None


# --- Words ------------------------------------------------------------------------------------------------------------


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            yield from [] if "overload" in marks else [node]


def test_what_people_call_says_what_it_does() -> None:
    """Docstrings: every module; what `import trilemma` offers, verbs, contracts, metrics and maths also inside."""
    silent = [path for path in modules() if tree(path).body and not ast.get_docstring(tree(path))]
    faults = [f"{place(path, 1)}: the module has none" for path in silent]
    inside = [PACKAGE / name for name in ("cli.py", "tasks/load.py", "training/start.py")]
    inside += [
        *modules("cli_tasks"),
        PACKAGE / "report" / "compare.py",
        PACKAGE / "models" / "contract.py",
        PACKAGE / "modalities" / "door.py",
    ]
    inside += [path for path in modules("maths", "metrics") if path.exists()]
    for path in inside:
        for node in public(tree(path).body) if path.exists() else ():
            # The methods of a contract are said where it is declared; a dataclass says itself by its fields.
            if not ast.get_docstring(node) and not (isinstance(node, ast.ClassDef) and node.bases):
                faults.append(f"{place(path, node.lineno)}: {node.name} has none")
    for node in public(tree(PACKAGE / "tasks" / "load.py").body):
        if isinstance(node, ast.ClassDef) and node.name == "Loaded":
            methods = [method.name for method in public(node.body) if not ast.get_docstring(method)]
            faults += [f"trilemma/tasks/load.py: Loaded.{name} has none" for name in methods]
    report(faults)


SAID = {
    "its range": r"\b[Rr]anges?\b",
    "its source": r"\bSources?:",
    "known biases": r"\bKnown biases:",
    "how its interval is made, or that it has none": r"\bIntervals?:|\b[Nn]o interval",
}


def test_every_metric_says_what_it_is_and_what_is_wrong_with_it() -> None:
    """Of all public functions of `metrics/` that return a `Measure` or several."""
    faults, several = [], {"memorisation"}  # measures beside what is none
    for path in modules("metrics"):
        for node in public(tree(path).body) if path.name != "protocol.py" else ():
            if isinstance(node, ast.FunctionDef):
                returned = ast.unparse(node.returns) if node.returns else ""
                if re.search(r"\bMeasure\b", returned) or node.name in several:
                    text = " ".join((ast.get_docstring(node) or "").split())
                    missing = [what for what, words in SAID.items() if not re.search(words, text)]
                    faults += [f"{place(path, node.lineno)}: {node.name} does not say {', '.join(missing)}"] * bool(
                        missing
                    )
    report(faults)


def tracked() -> list[Path]:
    try:
        listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("git is not installed")
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def test_no_tracked_file_names_a_machine() -> None:
    """Paths of somebody's machine and package registries: what holds here need not hold where this is read."""
    folders, hosts = rb"/(root|work|home/\w+|Users/\w+|mnt/\w+)/", rb"\bpypi\.org|pythonhosted|download\.pytorch"
    machine = re.compile(folders + b"|" + hosts + rb"|--index-url[ =]\S*:")
    faults = []
    for path in tracked():
        for number, line in enumerate(path.read_bytes().splitlines(), 1) if path != Path(__file__) else ():
            if len(line) < 10_000 and machine.search(line):
                faults.append(f"{place(path, number)}: {line.decode(errors='replace').strip()}")
    report(faults)
