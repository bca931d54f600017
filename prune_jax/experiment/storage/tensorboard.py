"""TensorBoard event files without TensorFlow: scalars, which is all that a curve needs.

A file is a row of TFRecords whose contents are ``Event`` messages in protocol-buffer encoding. A TFRecord is a length,
its checksum, the content, and its checksum. Both checksums are masked CRC-32C. Written out here, the two formats take
less than a library that writes them: those at hand import PyTorch where it is installed, or TensorFlow. Sources:
tensorflow.org/tutorials/load_data/tfrecord (framing), tensorflow/core/util/event.proto (fields).
"""

import functools
import struct
from collections.abc import Mapping

POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed
MASK = 0xA282EAD8  # added to a rotated checksum, so that checksums of checksums stay good


def opening(wall_time: float) -> bytes:
    """What an event file begins with: its format's version, at ``wall_time`` seconds since 1970."""
    return framed(_double(1, wall_time) + _bytes(3, b"brain.Event:2"))


def scalars(step: int, values: Mapping[str, float], wall_time: float) -> bytes:
    """One record: ``values`` by tag (float32 in the file) at a step. ValueError for a step below 0."""
    if step < 0:
        raise ValueError(f"a step is at least 0, got {step}")
    summary = b"".join(
        _bytes(1, _bytes(1, tag.encode()) + _key(2, 5) + struct.pack("<f", value))
        for tag, value in values.items()
    )
    return framed(_double(1, wall_time) + _key(2, 0) + _varint(step) + _bytes(5, summary))


def framed(content: bytes) -> bytes:
    """``content`` as one TFRecord."""
    length = struct.pack("<Q", len(content))
    return length + _checksum(length) + content + _checksum(content)


def crc32c(content: bytes) -> int:
    """The CRC-32C (Castagnoli) of ``content``."""
    table, value = _table(), 0xFFFFFFFF
    for byte in content:
        value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
    return value ^ 0xFFFFFFFF


@functools.cache  # a constant, worked out when it is first needed
def _table() -> tuple[int, ...]:
    def entry(value: int) -> int:
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
        return value

    return tuple(entry(value) for value in range(256))


def _checksum(content: bytes) -> bytes:
    value = crc32c(content)
    rotated = (value >> 15 | value << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + MASK) & 0xFFFFFFFF)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _key(field: int, wire: int) -> bytes:
    return _varint(field << 3 | wire)


def _double(field: int, value: float) -> bytes:
    return _key(field, 1) + struct.pack("<d", value)


def _bytes(field: int, value: bytes) -> bytes:
    return _key(field, 2) + _varint(len(value)) + value
