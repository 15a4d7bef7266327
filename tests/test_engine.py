"""What the engine reads of the machine: memory that does not depend on what came before, and counters of energy."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from trilemma.training import carry, engine


def taken(megabytes: int) -> float:
    """MiB that an allocation of this size adds to the peak, as it is measured."""
    before = engine.forget_peak()
    block = torch.ones(megabytes << 20, dtype=torch.uint8)
    after = engine.peak_memory()
    assert before is not None and after is not None and block.numel()
    return (after - before) / 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux counts peaks anew")
def test_memory_is_the_same_after_other_work() -> None:
    first = taken(20)
    # What the allocator keeps of freed tensors is no memory that the next work gets for nothing.
    small = [torch.ones(100_000, dtype=torch.uint8) for _ in range(600)]
    large = [torch.ones(megabytes << 20, dtype=torch.uint8) for megabytes in (30, 25, 20)]
    del small, large
    assert 18 < first < 30
    assert 18 < taken(20) < 30


def counter(folder: Path, name: str, microjoules: str) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "energy_uj").write_text(microjoules)


def test_energy_adds_the_counters_of_all_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(engine, "COUNTERS", tmp_path)
    assert engine.energy(cpu) is None and carry._spent(None, cpu) is None
    counter(tmp_path, "intel-rapl:0", "5000000\n")
    counter(tmp_path, "intel-rapl:1", "2500000\n")
    counter(tmp_path, "intel-rapl:0:0", "4000000\n")  # a part of package 0
    assert engine.energy(cpu) == pytest.approx(7.5)
    assert carry._spent(3.0, cpu) == pytest.approx(4.5)
    assert carry._spent(8.0, cpu) is None  # a counter that wrapped round
    counter(tmp_path, "intel-rapl:1", "unreadable")
    assert engine.energy(cpu) == pytest.approx(5.0)


def test_energy_of_a_gpu_comes_from_the_one_at_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML's documented names, on a stand-in. The processors alone would be the small half: then there is none."""

    class NVMLError(Exception): ...

    def counted(handle: str) -> int:
        if handle != "GPU-7a":
            raise NVMLError("not found")
        return 12_500  # millijoules

    monkeypatch.setattr(engine, "COUNTERS", tmp_path)
    counter(tmp_path, "intel-rapl:0", "5000000")
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert engine.energy(torch.device("cuda", 1)) is None  # the extra is not there
    told = {"nvmlInit": lambda: None, "nvmlDeviceGetHandleByUUID": str, "nvmlDeviceGetTotalEnergyConsumption": counted}
    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=NVMLError, **told))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="7abc"[: 1 + device.index])
    )
    assert engine.energy(torch.device("cuda", 1)) == pytest.approx(17.5)
    assert engine.energy(torch.device("cuda", 2)) is None  # NVML does not know it
