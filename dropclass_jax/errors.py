"""One kind of exception for a user's mistake, and how its message is worded."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

# What others call the last part of a config key.
SYNONYMS = {
    "accumulate_steps": ("gradient_accumulation", "accumulation_steps", "grad_accum"),
    "alpha": ("suppression", "suppression_weight"),
    "batch_size": ("batch", "bs"),
    "bn_momentum": ("batch_norm_momentum", "norm_momentum"),
    "cache_gib": ("cache", "cache_size"),
    "class_weights": ("weights", "weighting", "class_weight"),
    "crop": ("crop_size", "image_size", "input_size", "resolution", "size"),
    "dir": ("path", "root", "source_dir", "data_dir"),
    "dtype": ("precision", "mixed_precision", "amp"),
    "ema": ("ema_decay", "moving_average"),
    "enabled": ("use", "on"),
    "every_steps": ("every", "interval", "frequency"),
    "flip": ("hflip", "horizontal_flip", "mirror"),
    "freeze_bn": ("freeze_batch_norm", "frozen_bn"),
    "lambda_": ("lambda",),
    "log_every": ("log_interval", "log_steps", "print_freq"),
    "lr": ("learning_rate", "base_lr", "max_lr"),
    "momentum": ("beta1", "b1"),
    "name": ("type", "arch", "architecture", "backbone", "dataset", "optimizer"),
    "num_threads": ("workers", "num_workers", "threads"),
    "p": ("probability", "drop_probability", "drop_rate"),
    "path": ("pretrained", "weights", "checkpoint"),
    "remat": ("gradient_checkpointing", "checkpointing"),
    "scale": ("scale_range", "resize"),
    "seed": ("random_seed",),
    "total_steps": ("steps", "num_steps", "max_steps", "iterations", "max_iters", "epochs"),
    "warmup_steps": ("warmup", "warmup_epochs"),
    "weight_decay": ("wd", "decay", "l2"),
}


class UserError(Exception):
    """The input is wrong, not the program.

    The message is one line that names the file, key or value at fault and the mend. Every command
    prints it and exits with code 2 (see ``cli.app.run``).
    """


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, or its type where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def unknown(what: str, name: str, known: Iterable[str], there_is: str | None = None) -> str:
    """``"unknown model 'x'; did you mean y? There is y, z"``, for a message.

    Args:
      what: the kind of thing that is named.
      name: the name that is not known.
      known: the names that are.
      there_is: what to say that there is; by default the known names, nothing if empty.
    """
    known = list(known)
    there_is = ", ".join(known) if there_is is None else there_is
    text = f"unknown {what} {name!r}{nearest(name, known)}"
    return f"{text}{'' if text.endswith('?') else '.'} There is {there_is}" if there_is else text


def nearest(name: str, known: Iterable[str]) -> str:
    """``'; did you mean X?'`` for the known name most like a wrong one, or nothing.

    Names are compared by their letters, and so are their usual synonyms (``SYNONYMS``): the nearest
    to ``optim.learning_rate`` is ``optim.lr``.
    """
    # Of keys that share a synonym, the one that is spelled most like the name.
    likeness, _, best = max(
        ((_likeness(name, other), _ratio(name, other), other) for other in known),
        default=(0.0, 0.0, ""),
    )
    return f"; did you mean {best}?" if likeness >= 0.5 else ""


def _likeness(name: str, other: str) -> float:
    """0 to 1, by the spelling of ``other`` that is most like ``name``."""
    section, dot, key = other.rpartition(".")
    keys = (key, *SYNONYMS.get(key, ()))
    spellings = [section + dot + spelling for spelling in keys] + list(keys)
    return max(_ratio(name, spelling) for spelling in spellings)


def _ratio(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name, other).ratio()


def one_of(names: Iterable[str]) -> str:
    """``"one of 'a', 'b'"``: what a value may be, for a message."""
    return "one of " + ", ".join(map(repr, names))
