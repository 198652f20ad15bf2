"""The cores of this process, on systems that bind processes to cores and on others."""

import os

import pytest

from dropclass_jax import cores


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux alone has it")
def test_those_that_it_is_bound_to():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert cores.usable() == [min(before)]
    finally:
        os.sched_setaffinity(0, before)
    assert cores.usable() == sorted(before)


def test_elsewhere_all(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert cores.usable() == [0, 1, 2]
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable() == [0]
