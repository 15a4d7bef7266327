"""Train, choose and test by content: an example's own bytes decide, so that duplicates fall on one side.

The thresholds are on the hash alone: renaming files moves nothing, adding files moves nobody into the test split.
"""

from __future__ import annotations

import hashlib

import numpy as np

from trilemma.errors import InputError

LARGEST = 5_000  # examples in the choose split, and in a test split that we cut ourselves
MOST_ALIKE = 10  # pairs of one source that must not be torn apart
FEWEST = 16
LEAST = 10  # examples in choose and in test, where a fifth of the data are as many


def digests(x: np.ndarray, *, chunk: int = 4096) -> np.ndarray:
    """A 128-bit hash of every example's bytes: (N, 2) uint64. Reads x (N, ...) once, `chunk` rows at a time."""
    result = np.empty((len(x), 2), dtype=np.uint64)
    for start in range(0, len(x), chunk):
        part = np.ascontiguousarray(x[start : start + chunk])
        part = part.reshape(len(part), -1).view(np.uint8)
        joined = b"".join(hashlib.blake2b(row.data, digest_size=16).digest() for row in part)
        result[start : start + len(part)] = np.frombuffer(joined, dtype="<u8").reshape(-1, 2)
    return result


def duplicates(digest: np.ndarray) -> int:
    """How many examples repeat an earlier one."""
    ranked = digest[np.lexsort((digest[:, 1], digest[:, 0]))]  # far faster than np.unique over rows
    return int((ranked[1:] == ranked[:-1]).all(1).sum())


def enough(count: int, source: str, fewest: int | None = None) -> None:
    """InputError when there are too few examples to learn from; fewest: of which something is to be learned."""
    if count < (fewest or FEWEST):
        better = "" if fewest else ", better hundreds"
        raise InputError(f"{source}: only {count} examples; at least {fewest or FEWEST} are needed{better}: add more")


def joined(digest: np.ndarray, sources: np.ndarray) -> np.ndarray:
    """Digests (N, 2) of targets, equal where pairs have a source or a target in common: they go into one split.

    A source that many pairs have says little of its targets (a mask that is land all over): those stay apart.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    edges = []
    for one, most in ((digest, len(digest)), (sources, MOST_ALIKE)):
        order = np.lexsort((one[:, 1], one[:, 0]))
        same = (one[order][1:] == one[order][:-1]).all(1)
        group = np.concatenate([[0], np.cumsum(~same)])
        small = np.bincount(group)[group][1:] <= most
        edges.append(np.stack([order[:-1], order[1:]])[:, same & small])
    rows, columns = np.concatenate(edges, 1)
    graph = coo_matrix((np.ones(len(rows), dtype=bool), (rows, columns)), shape=(len(digest), len(digest)))
    _, part = connected_components(graph, directed=False)
    order = np.lexsort((digest[:, 1], digest[:, 0]))
    first = np.empty(part.max() + 1, dtype=np.int64)
    first[part[order][::-1]] = order[::-1]  # of each part the row of the smallest digest
    return digest[first[part]]


def cut(
    digest: np.ndarray,
    source: str,
    *,
    official: np.ndarray | None = None,
    fraction: float = 0.1,
    fewest: int | None = None,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Row numbers of the three splits, and notes.

    `official` (N,) bool marks the rows of a test set that came with the data: it becomes the test split whole, training
    rows that repeat one of its examples are left out. Each split is in the order of the hashes, as good as shuffled:
    its first 64 rows show all classes, and renamed files train the same model.
    """
    enough(len(digest), source, fewest)
    order = np.lexsort((np.arange(len(digest)), digest[:, 1], digest[:, 0]))  # equal examples are neighbours
    ranked = digest[order]
    new = np.ones(len(order), dtype=bool)
    new[1:] = (ranked[1:] != ranked[:-1]).any(1)
    group = np.cumsum(new) - 1  # number of the distinct example, by rank
    place = ranked[:, 0] / 2.0**64  # in [0, 1): uniform
    notes: list[str] = []
    if official is not None and official.any():
        in_test = official[order]
        tested = np.zeros(group[-1] + 1, dtype=bool)
        tested[group[in_test]] = True
        left_out = ~in_test & tested[group]
        if left_out.any():
            notes.append(f"{left_out.sum()} training examples also in the official test set were left out of training")
        free = ~in_test & ~left_out
    else:
        in_test, free = None, np.ones(len(order), dtype=bool)
    wanted = ("choose",) if in_test is not None else ("test", "choose")
    if len(np.unique(group[free])) <= len(wanted):
        raise InputError(
            f"{source}: {free.sum()} training examples, but only {len(np.unique(group[free]))} distinct ones; "
            "a model needs variety: add different examples"
        )
    share = min(fraction, LARGEST / max(int(free.sum()), 1))
    parts: dict[str, np.ndarray] = {}
    for name in wanted:
        # The two parts grow from opposite ends, so that a changing share never moves a row from one to the other.
        closeness = place if name == "test" else 1 - place
        chosen = free & (closeness < share)
        groups, sizes = np.unique(group[free], return_counts=True)
        groups, sizes = (groups, sizes) if name == "test" else (groups[::-1], sizes[::-1])
        # Of small sets the share may be one row or none: measures need some.
        least = min(LEAST, max(int(free.sum()) // 5, 1))
        if chosen.sum() < least:
            chosen = free & np.isin(group, groups[: int(np.searchsorted(np.cumsum(sizes), least)) + 1])
        if chosen.sum() > LARGEST and sizes[0] <= LARGEST:
            fits = groups[np.cumsum(sizes) <= LARGEST]
            chosen &= np.isin(group, fits)
        parts[name] = chosen
        free = free & ~chosen
    if in_test is not None:
        parts["test"] = in_test
    if not free.any():
        raise InputError(f"{source}: no training examples are left beside the choose and test splits; add more")
    parts["train"] = free
    return {name: order[parts[name]] for name in ("train", "choose", "test")}, notes


def content_hash(digest: np.ndarray, splits: dict[str, np.ndarray], *more: object) -> str:
    """One hash of the contents and the splits (their order by content, not by file name) and of `more`'s text."""
    total = hashlib.blake2b(digest_size=16)
    for name in ("train", "choose", "test"):
        total.update(name.encode())
        total.update(np.ascontiguousarray(digest[splits[name]]).tobytes())
    for item in more:
        total.update(item.tobytes() if isinstance(item, np.ndarray) else repr(item).encode())
    return total.hexdigest()
