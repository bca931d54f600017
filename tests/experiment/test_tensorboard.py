import struct

import numpy as np
import pytest

from prune_jax.experiment.storage import tensorboard


def test_the_checksum_is_castagnolis():
    """Check value of CRC-32C, and the vectors of RFC 3720, B.4."""
    assert tensorboard.crc32c(b"123456789") == 0xE3069283
    assert tensorboard.crc32c(bytes(32)) == 0x8A9136AA
    assert tensorboard.crc32c(b"\xff" * 32) == 0x62A8AB43
    assert tensorboard.crc32c(bytes(range(32))) == 0x46DD794E


def test_a_scalar_by_hand():
    """Event(wall_time=1.5, step=300, summary(value(tag='a', simple_value=0.25))), encoded with pencil and paper."""
    content = (
        b"\x09" + struct.pack("<d", 1.5)
        + b"\x10\xac\x02"
        + b"\x2a\x0a" + b"\x0a\x08" + b"\x0a\x01a" + b"\x15" + struct.pack("<f", 0.25)
    )  # fmt: skip
    record = tensorboard.scalars(300, {"a": 0.25}, 1.5)
    assert record[:8] == struct.pack("<Q", len(content))
    assert record[12:-4] == content
    with pytest.raises(ValueError, match="step is at least 0"):
        tensorboard.scalars(-1, {}, 0.0)


def test_tensorboard_reads_what_was_written(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    values = np.random.default_rng(0).normal(size=200)
    with (tmp_path / "events.out.tfevents.1.host.2").open("wb") as file:
        file.write(tensorboard.opening(1.0))
        for step, value in enumerate(values):
            file.write(tensorboard.scalars(step, {"retrain/test_accuracy": value, "lr": 0.1}, 2.0 + step))
    read = accumulator.EventAccumulator(str(tmp_path), size_guidance={"scalars": 0}).Reload()
    assert sorted(read.Tags()["scalars"]) == ["lr", "retrain/test_accuracy"]
    events = read.Scalars("retrain/test_accuracy")
    assert [event.step for event in events] == list(range(200))
    assert [event.wall_time for event in events] == [2.0 + step for step in range(200)]
    np.testing.assert_array_equal([event.value for event in events], values.astype(np.float32))
