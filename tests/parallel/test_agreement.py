"""What processes agree on, with stand-ins for what they exchange."""

from __future__ import annotations

import json

import jax
import pytest

from dropclass_jax.errors import UserError
from dropclass_jax.parallel import processes


@pytest.fixture
def exchange(monkeypatch):
    """``exchange(*others)``: what other processes send; this is process 0."""

    def exchange(*others):
        monkeypatch.setattr(jax, "process_count", lambda: 1 + len(others))
        monkeypatch.setattr(processes, "gather_text", lambda text: [text, *others])
        monkeypatch.setattr(processes, "any_process", lambda flag: flag or any(others))

    return exchange


def test_processes_that_agree_go_on(exchange):
    processes.check_agreement({"lr": 0.1})
    exchange(json.dumps({"lr": 0.1, "crop": [3, 4]}))
    processes.check_agreement({"crop": (3, 4), "lr": 0.1})


def test_every_difference_is_named_up_to_a_few(exchange):
    ours = {f"array {n}": n for n in range(9)}
    exchange(json.dumps(ours), json.dumps({**ours, "array 3": 7, "more": 1}))
    with pytest.raises(UserError, match="differ: array 3 is 3 in process 0, 7 in process 2; more"):
        processes.check_agreement(ours)
    exchange(json.dumps({}))
    with pytest.raises(UserError, match="array 4 is 4 in process 0, None in process 1 and 4 more"):
        processes.check_agreement(ours)


def test_what_stops_one_stops_all(exchange):
    exchange("", "")
    with processes.together():
        pass
    exchange("", "no such file")
    with pytest.raises(UserError, match="process 2 stopped: no such file"), processes.together():
        pass
    with pytest.raises(UserError, match="our own"), processes.together():
        raise UserError("our own")
