"""Threads that wait for one another sleep where something else needs their cores; what a user has set stays."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import trilemma

ASK = "import os, trilemma; print(os.environ.get('OMP_WAIT_POLICY'))"


def told(**settings: str) -> str:
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run([sys.executable, "-c", ASK], env={**clean, **settings}, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux tells what runs")
def test_beside_busy_processes_they_sleep() -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        assert any(told() == "PASSIVE" for _ in range(5))
        assert told(OMP_WAIT_POLICY="ACTIVE") == "ACTIVE"
        assert told(GOMP_SPINCOUNT="7") == "None"
    finally:
        for one in busy:
            one.kill()


def test_where_nothing_is_told_of_others_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.open", lambda *a, **k: (_ for _ in ()).throw(OSError))
    assert not trilemma._crowded()
