"""Capsules as a careless or hostile producer might fill them, handed to the compiled module.

A capsule says where its memory lies and nobody can check that; but sizes, strides and types that
cannot be are refused before a byte is read, and each capsule is given back exactly once.
"""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from gramian import _cpu
from hypothesis import assume, event, given
from hypothesis import strategies as st
from numpy.lib.stride_tricks import as_strided

FLOAT, COMPLEX, CPU = 2, 5, 1
HUGE = 2**63 - 1


class Tensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", ctypes.c_int32 * 2), ("ndim", ctypes.c_int32),
                ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16),
                ("shape", ctypes.POINTER(ctypes.c_int64)),
                ("strides", ctypes.POINTER(ctypes.c_int64)),
                ("byte_offset", ctypes.c_uint64)]  # fmt: skip


Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class Managed(ctypes.Structure):
    _fields_ = [("tensor", Tensor), ("context", ctypes.c_void_p), ("deleter", Deleter)]


class ManagedVersioned(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32 * 2), ("context", ctypes.c_void_p),
                ("deleter", Deleter), ("flags", ctypes.c_uint64), ("tensor", Tensor)]  # fmt: skip


new_capsule = ctypes.pythonapi.PyCapsule_New
new_capsule.restype = ctypes.py_object
new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]


class Producer:
    """A capsule with these fields; it keeps what they point to and counts the deleter's calls."""

    def __init__(self, data, shape, strides, *, versioned=False, major=1, flags=0, ndim=None,
                 device=(CPU, 0), kind=(FLOAT, 64, 1), offset=0):  # fmt: skip
        self.deleted = 0
        self._kept = [data]
        self._deleter = Deleter(self._delete)
        managed = (ManagedVersioned if versioned else Managed)()
        managed.deleter = self._deleter
        if versioned:
            managed.version[:] = (major, 0)
            managed.flags = flags
        tensor = managed.tensor
        tensor.data = None if data is None else data.ctypes.data
        tensor.device[:] = device
        tensor.ndim = len(shape or ()) if ndim is None else ndim
        tensor.code, tensor.bits, tensor.lanes = kind
        tensor.shape = self._integers(shape)
        tensor.strides = self._integers(strides)
        tensor.byte_offset = offset
        self._managed = managed
        name = b"dltensor_versioned" if versioned else b"dltensor"
        self.capsule = new_capsule(ctypes.addressof(managed), name, None)

    def _integers(self, values):
        if values is None:
            return None
        self._kept.append((ctypes.c_int64 * max(1, len(values)))(*values))
        return ctypes.cast(self._kept[-1], ctypes.POINTER(ctypes.c_int64))

    def _delete(self, _):
        self.deleted += 1


def norm_bound(capsule, count=1):
    """gram_bound of the capsule's matrix (or batch of `count`), straight from the module."""
    out = np.full(count, np.nan)
    result = out.reshape(()) if count == 1 else out
    _cpu.gram_bound(capsule, result.__dlpack__(), "float64", 4, True)
    return out


BUFFER = np.random.default_rng(0).standard_normal(500)


@given(
    shape=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    strides=st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    start=st.integers(0, BUFFER.size - 1),
    versioned=st.booleans(),
    by_offset=st.booleans(),
)
def test_any_window_of_a_buffer_is_read_as_numpy_reads_it(
    shape, strides, start, versioned, by_offset
):
    ends = [(n - 1) * s for n, s in zip(shape, strides, strict=True)]
    low, high = sum(min(0, e) for e in ends), sum(max(0, e) for e in ends)
    if 0 not in shape:
        assume(start + low >= 0 and start + high < BUFFER.size)
    window = as_strided(BUFFER[start:], shape, [8 * s for s in strides])
    origin, offset = (BUFFER, 8 * start) if by_offset else (BUFFER[start:], 0)
    producer = Producer(origin, shape, strides, versioned=versioned, offset=offset)
    bound = norm_bound(producer.capsule)[0]
    norm = np.linalg.norm(window, 2) if window.size else 0.0
    assert norm * (1 - 1e-12) <= bound <= norm * (1 + 1e-12) * max(1, min(shape)) ** (1 / 32)
    assert producer.deleted == 1


def dimensions(n):
    return st.one_of(st.integers(1, 4), st.sampled_from([n, HUGE, 2**62, 2**33, 2**32, 3**30]))


@given(
    shape=st.lists(dimensions(HUGE), min_size=2, max_size=4),
    strides=st.none() | st.lists(
        st.sampled_from([0, 1, -1, 2**31, 2**61, -(2**61), HUGE, -(2**63)]), min_size=4, max_size=4
    ),
    versioned=st.booleans(),
)  # fmt: skip
def test_sizes_that_no_memory_has_are_refused(shape, strides, versioned):
    """Their number of elements, or the way to the last one in bytes, is beyond 64 bits."""
    strides = strides and strides[: len(shape)]
    count = 1
    for n in shape:
        count *= n
    steps = strides or [0] * len(shape)
    reach = sum(abs((n - 1) * s) for n, s in zip(shape, steps, strict=True))
    assume(count > HUGE or 8 * reach > HUGE)
    event("count" if count > HUGE else "strides")
    producer = Producer(BUFFER, shape, strides, versioned=versioned)
    with pytest.raises(BufferError, match=r"^a: .*overflow"):
        norm_bound(producer.capsule)
    assert producer.deleted == 1


@given(
    shape=st.lists(st.integers(-3, 4), min_size=2, max_size=4).filter(lambda s: min(s) < 0),
    versioned=st.booleans(),
)
def test_negative_dimensions_are_refused(shape, versioned):
    producer = Producer(BUFFER, shape, None, versioned=versioned)
    with pytest.raises(BufferError, match=r"^a: .*negative dimension"):
        norm_bound(producer.capsule)
    assert producer.deleted == 1


@pytest.mark.parametrize("versioned", [False, True])
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": None}, "no data"),
        ({"shape": None, "ndim": 2}, "no shape"),
        ({"ndim": -1}, "no shape"),
        ({"kind": (FLOAT, 64, 2)}, "element type"),
        ({"kind": (FLOAT, 32, 1)}, "element type"),
        ({"kind": (FLOAT, 63, 1)}, "element type"),
        ({"kind": (0, 64, 1)}, "element type"),
        ({"kind": (COMPLEX, 64, 1)}, "element type"),
        ({"kind": (200, 64, 1)}, "element type"),
        ({"device": (2, 0)}, "device type 2"),
        ({"device": (-7, 0)}, "device type -7"),
    ],
)
def test_fields_that_cannot_be(versioned, fields, message):
    fields = {"data": BUFFER, "shape": (3, 4), "strides": (4, 1)} | fields
    producer = Producer(**fields, versioned=versioned)
    with pytest.raises(BufferError, match=f"^a: .*{message}"):
        norm_bound(producer.capsule)
    assert producer.deleted == 1


def test_a_later_major_version_is_refused_and_left_to_its_owner():
    """Where its deleter lies is not known either."""
    producer = Producer(BUFFER, (3, 4), None, versioned=True, major=2)
    with pytest.raises(BufferError, match="version 2"):
        norm_bound(producer.capsule)
    assert producer.deleted == 0


@pytest.mark.parametrize("versioned", [False, True])
def test_a_capsule_is_taken_once(versioned):
    producer = Producer(BUFFER, (3, 4), (4, 1), versioned=versioned)
    norm_bound(producer.capsule)
    with pytest.raises(TypeError):
        norm_bound(producer.capsule)
    assert producer.deleted == 1


def test_results_are_not_written_into_what_is_read_only():
    target = np.zeros(1)
    producer = Producer(target, (), (), versioned=True, flags=1)
    with pytest.raises(BufferError, match="read-only"):
        _cpu.gram_bound(np.eye(3).__dlpack__(), producer.capsule, "float64", 4, True)
    assert target[0] == 0
    assert producer.deleted == 1


@given(thing=st.none() | st.integers() | st.text() | st.binary() | st.just(BUFFER))
def test_what_is_no_capsule_is_refused(thing):
    with pytest.raises(TypeError):
        norm_bound(thing)


@pytest.mark.parametrize("name", [b"arrow_schema", b"", None])
def test_capsules_of_other_protocols_are_refused(name):
    producer = Producer(BUFFER, (3, 4), None)
    other = new_capsule(ctypes.addressof(producer._managed), name, None)
    with pytest.raises(TypeError):
        norm_bound(other)
    assert producer.deleted == 0
