"""Configs and sweeps are Python files of the user's: call the function that one holds."""

from __future__ import annotations

import runpy
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dropclass_jax.errors import UserError, first_line


def call(path: str, name: str, what: str, *args: Any) -> tuple[Any, str]:
    """Run a Python file and call one of its functions.

    Args:
      path: of the file.
      name: of the function.
      what: the file is, for messages: ``"config file"``.
      *args: of the function.

    Returns:
      What the function returns, and the docstring of the file (empty where it has none).

    Raises:
      UserError: the file is missing, has no such function, or raises an exception; names the line.
    """
    file = f"{what} {path}"
    if not Path(path).is_file():
        raise UserError(f"{file} does not exist or cannot be read")
    names = _run(runpy.run_path, (path,), path, file)
    if not callable(names.get(name)):
        raise UserError(f"{file} has no {name} function")
    return _run(names[name], args, path, file), names.get("__doc__") or ""


def _run(function: Callable[..., Any], args: tuple[Any, ...], path: str, file: str) -> Any:
    """Call a function; an exception becomes one line, with the line of the file that led to it."""
    try:
        return function(*args)
    except UserError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        message = first_line(error)
        if isinstance(error, SyntaxError) and error.filename == path:
            lines, message = [error.lineno], error.msg
        where = f", line {lines[-1]}" if lines else ""
        raise UserError(f"{file}{where}: {type(error).__name__}: {message}") from None
