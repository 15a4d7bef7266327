"""What users did wrong, said so that they can mend it: every other exception is our own mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input from the user: data, a setting, a file. The message names it and the fix; the CLI exits with code 2."""


class DiskError(InputError):
    """A full, forbidden or broken disk: no fault of what was being done, and all that follows would meet it as well."""


def first_line(problem: BaseException) -> str:
    """What another library's exception says, short enough for a part of our own message."""
    return next((line.strip() for line in str(problem).splitlines() if line.strip()), type(problem).__name__)[:200]


MOST = 60  # names that an error lists


def of_another_version(what: str, model: str, problem: object) -> InputError:
    """For weights that do not fit the model of this version; problem: what says so, of which the last line is told."""
    lines = str(problem).splitlines()
    return InputError(
        f"{what} was written by another version of Trilemma, whose {model} has other weights ({lines[-1].strip()}); "
        "train it again"
    )


def unknown(what: str, given: str, known: Iterable[str]) -> InputError:
    """An error for a name that does not exist, with the nearest ones that do."""
    names = sorted(known)
    close = difflib.get_close_matches(given, names, n=1, cutoff=0.4)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    shown = ", ".join(names[:MOST]) + (f" and {len(names) - MOST:,} more" if len(names) > MOST else "")
    return InputError(f"unknown {what} {given!r}.{hint} Known: {shown}")
