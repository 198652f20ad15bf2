"""Bytes that a compiled program moves, and what for: a reading of XLA's text of it.

Every kernel reads its operands and writes its result once; what happens inside of a fusion stays
in registers. That is how XLA counts (``bytes accessed`` of ``cost_analysis``), except that it takes
the body of a loop once and here it counts as often as it runs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.+?) ([\w\-]+)\(([^()]*|.*?)\)(, .*)?$")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_ARRAY = re.compile(r"\b([a-z]+\d*(?:e\d+m\d+\w*)?)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"\b(?:calls|to_apply|body)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_SOURCE = re.compile(r'op_name="((?:[^"\\]|\\.)*)"')

_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier",
}  # fmt: skip


class Instruction(NamedTuple):
    """One line of a program: what it computes and from what."""

    root: bool
    name: str
    shape: str
    opcode: str
    inputs: str
    rest: str

    @property
    def operands(self) -> list[str]:
        """The names of what it is computed from."""
        return _NAME.findall(self.inputs)

    @property
    def bytes(self) -> int:
        """Of its result."""
        return sum(
            _width(dtype) * math.prod(map(int, filter(None, dims.split(","))))
            for dtype, dims in _ARRAY.findall(self.shape)
        )


class Kernel(NamedTuple):
    """What runs as one.

    Attributes:
      opcode: ``fusion``, ``convolution``, ``dot``, ...
      source: where in the traced program it comes from, as ``jit(f)/jvp(Segmenter)/head/...``;
        empty for what the compiler added.
      times: how often it runs.
      bytes: that it reads and writes, over all times.
    """

    opcode: str
    source: str
    times: int
    bytes: int


Program = Mapping[str, tuple[Instruction, ...]]


def kernels(text: str) -> list[Kernel]:
    """The kernels of a compiled program, from ``compiled.as_text()``."""
    program, entry = _parse(text)
    return list(_kernels(program, entry, 1))


def _parse(text: str) -> tuple[Program, str]:
    """The computations by name, and the name of the first to run."""
    program: dict[str, list[Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if match := _LINE.match(line):
            root, *fields, rest = match.groups()
            if current is not None:
                current.append(Instruction(bool(root), *fields, rest or ""))
        elif match := _COMPUTATION.match(line):
            current = program.setdefault(match[2], [])
            entry = match[2] if match[1] else entry
    return {name: tuple(lines) for name, lines in program.items()}, entry


def _kernels(program: Program, name: str, times: int) -> Iterator[Kernel]:
    results = {line.name: line for line in program[name]}
    for line in program[name]:
        called = _CALLED.findall(line.rest)
        if line.opcode in _FREE:
            continue
        if line.opcode == "while":
            trips = _TRIPS.search(line.rest)
            yield from _kernels(program, called[0], times * int(trips[1] if trips else 1))
        elif line.opcode == "call":
            yield from _kernels(program, called[0], times)
        elif line.opcode == "conditional":
            branches = _NAME.findall("".join(_BRANCHES.findall(line.rest))) or called
            each = [list(_kernels(program, branch, times)) for branch in branches]
            yield from max(each, key=lambda kernels: sum(k.bytes for k in kernels), default=[])
        else:
            inside = program.get(called[0], ()) if line.opcode == "fusion" and called else ()
            moved = _traffic(line, [results[name] for name in line.operands], inside)
            source = _SOURCE.search(line.rest)
            yield Kernel(line.opcode, source[1] if source else "", times, times * moved)


def _traffic(
    line: Instruction, operands: list[Instruction], inside: tuple[Instruction, ...]
) -> int:
    """Bytes read and written by one run of a kernel; of a slice of a buffer, the slice's."""
    if line.opcode == "dynamic-slice":
        return 2 * line.bytes
    if line.opcode == "dynamic-update-slice":
        return 2 * operands[1].bytes
    if not inside:
        return line.bytes + sum(operand.bytes for operand in operands)
    by_name = {part.name: part for part in inside}
    parameters = [part for part in inside if part.opcode == "parameter"]
    moved = 0
    for parameter in parameters:
        operand = operands[int(parameter.inputs)]
        users = [part for part in inside if parameter.name in part.operands]
        if all(_slices(user, parameter) for user in users):
            moved += sum(user.bytes for user in users if user.opcode == "dynamic-slice")
        else:
            moved += operand.bytes
    root = next(part for part in inside if part.root)
    while root.opcode == "bitcast":
        root = by_name[root.operands[0]]
    if root.opcode == "dynamic-update-slice":
        return moved + by_name[root.operands[1]].bytes
    return moved + line.bytes


def _slices(user: Instruction, buffer: Instruction) -> bool:
    """Whether an instruction touches only a slice of a buffer, its first operand."""
    return user.opcode in ("dynamic-slice", "dynamic-update-slice") and (
        user.operands[0] == buffer.name and buffer.name not in user.operands[1:]
    )


def _width(dtype: str) -> int:
    """Bytes of an element; of a narrower one than a byte, a byte."""
    digits = re.match(r"[a-z]+(\d+)", dtype)
    return max(int(digits[1]) // 8, 1) if digits else 1
