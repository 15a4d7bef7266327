"""The record behind a number: its key, and the way through JSON."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest

from trilemma.metrics.protocol import Measure, Protocol, fingerprint, interval, matching_features


def protocol(**changes: object) -> Protocol:
    base = Protocol(
        "classifier64", "9a0b1c2d", "test", 2000, 1000, seeds={"features": 3}, data_hash="77aa", versions={"numpy": "2"}
    )
    return dataclasses.replace(base, **changes)


def test_key_names_split_counts_and_features_and_stays_the_same():
    key = protocol().key()
    assert key.startswith("test_2000v1000_classifier64-")
    assert len(key.rsplit("-", 1)[1]) == 4
    assert key == protocol().key()


@pytest.mark.parametrize(
    "changes",
    [
        {"features_hash": "other"},
        {"resize": "bicubic 32"},
        {"sample_count": 999},
        {"split": "choose"},
        {"feature_split": "choose"},
        {"seeds": {"features": 4}},
        {"data_hash": "78aa"},
        {"versions": {"numpy": "3"}},
    ],
)
def test_any_entry_changes_the_key(changes):
    assert protocol(**changes).key() != protocol().key()


def test_record_goes_through_json():
    back = Protocol.from_record(json.loads(json.dumps(protocol().record())))
    assert back == protocol()
    assert back.key() == protocol().key()
    with pytest.raises(ValueError, match="flavour"):
        Protocol.from_record(protocol().record() | {"flavour": 1})
    with pytest.raises(ValueError, match="versions"):
        Protocol.from_record({k: v for k, v in protocol().record().items() if k != "versions"})


def test_versions_are_filled_in():
    assert {"numpy", "torch"} <= set(Protocol("f", "h", "test", 1, 1).versions)


def test_measure_record_is_valid_json():
    record = Measure(math.inf, None, 1.0, "psnr", "higher", "dB").record()
    assert record == {"value": None, "low": None, "high": 1.0, "name": "psnr", "better": "higher", "unit": "dB"}
    json.dumps(record, allow_nan=False)


def test_interval_holds_its_value():
    assert interval(0.5, 1.0, floor=0.0, ceiling=1.0) == (0.0, 1.0)
    assert interval(-0.1, 0.01, floor=0.0)[0] == -0.1


def test_fingerprint_sees_values_shapes_types_and_order():
    x = np.arange(6.0)
    prints = {
        fingerprint(x), fingerprint(x.reshape(2, 3)), fingerprint(x.astype(np.float32)), fingerprint(x + 1),
        fingerprint(x, x + 1), fingerprint(x + 1, x),
    }  # fmt: skip
    assert len(prints) == 6
    assert fingerprint(x[::2]) == fingerprint(x[::2].copy())


def test_bad_features_are_named():
    good = np.zeros((5, 3))
    with pytest.raises(ValueError, match="samples: expected features"):
        matching_features(good, np.zeros((5, 3, 1)))
    with pytest.raises(ValueError, match="too few"):
        matching_features(good[:1], good)
    with pytest.raises(ValueError, match="not finite"):
        matching_features(good, good * np.nan)
    with pytest.raises(ValueError, match="3 features and samples have 2"):
        matching_features(good, good[:, :2])
