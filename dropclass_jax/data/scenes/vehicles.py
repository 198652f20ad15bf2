"""Cars, trucks, buses and trains of the `streets` scenes, one function each.

Every function paints one vehicle that stands at `(x, z)`, in metres, heading `turn` radians off the
camera's own heading, and knows nothing of its surroundings: what stands where is decided in
`plan`. The large ones share their paint, so that colour alone does not tell them apart.
"""

from __future__ import annotations

import math

import numpy as np

from dropclass_jax.data.scenes import canvas as sc
from dropclass_jax.data.scenes.canvas import Canvas, choose, decal, fill, on_face, prism, stroke

# fmt: off
CAR_PAINT = [
    (225, 225, 225), (170, 175, 180), (55, 58, 64), (95, 100, 108), (40, 70, 125),
    (165, 35, 35), (120, 135, 150), (200, 190, 165), (35, 90, 80), (205, 120, 40),
]
LARGE_PAINT = [
    (215, 60, 50), (225, 185, 60), (235, 232, 225), (60, 110, 175), (70, 140, 90),
    (150, 155, 160), (205, 205, 195),
]
# fmt: on
TYRE = (32, 32, 36)
GLASS = (58, 70, 86)
GLOSSY = (0.0, 0.6, -0.4)  # the normal that makes glass mirror some of the sky's light
SIDES = ("left", "right")


def wheels(canvas: Canvas, quad, positions, radius: float, floor: float, label: int) -> None:
    """Wheels on the side face of a vehicle whose body begins `floor` metres above the ground."""
    length = math.dist(quad[0], quad[1])
    height = float(quad[3, 1] - quad[0, 1])
    centres = np.array([(s, (radius - floor) / height) for s in positions])[:, None]
    rim = sc.ring(12) * (radius / length, radius / height)
    fill(canvas, on_face(quad, centres + rim), TYRE, label)
    if quad[0, 2] < 30:
        fill(canvas, on_face(quad, centres + 0.5 * rim), (120, 122, 126))


def lamps(canvas: Canvas, quad, name: str, level: float, wide: float, tall: float) -> None:
    """Tail lights on the back face, headlights on the front one."""
    color = (205, 40, 35) if name == "back" else (245, 240, 215)
    top = level + tall
    boxes = ((0.04, 0.04 + wide, level, top), (0.96 - wide, 0.96, level, top))
    decal(canvas, quad, boxes, color, glow=True)


def car(canvas: Canvas, rng: np.random.Generator, x: float, z: float, turn: float = 0.0) -> None:
    """A hatchback, saloon, estate or van."""
    paint = choose(rng, CAR_PAINT)
    # length, height of the belt line and of the roof, length of the cabin and how far back it sits
    kinds = ((3.9, 0.88, 1.48, 2.5, 0.35), (4.6, 0.84, 1.42, 2.2, 0.1), (4.6, 0.98, 1.7, 3.1, 0.45))
    kinds = (*kinds, (4.9, 1.1, 2.0, 3.8, 0.5))
    chance = rng.random()
    length, belt, roof, cabin, back = kinds[(chance > 0.35) + (chance > 0.6) + (chance > 0.88)]
    width, floor = 1.78, 0.26
    body = prism(
        canvas, (x, z), (width, length), (floor, belt), paint, sc.CAR, turn,
        (width * 0.97, length * 0.96),
    )  # fmt: skip
    at = (x - math.sin(turn) * back, z - math.cos(turn) * back)
    top = prism(
        canvas, at, (width * 0.94, cabin), (belt, roof), paint, sc.CAR, turn,
        (width * 0.74, cabin * 0.72), -0.12,
    )  # fmt: skip
    beside = ((0.06, 0.48, 0.08, 0.86), (0.53, 0.94, 0.08, 0.86))
    for name, quad in top.items():
        panes = beside if name in SIDES else ((0.07, 0.93, 0.1, 0.86),)
        decal(canvas, quad, panes, GLASS, normal=GLOSSY)
    for name, quad in body.items():
        if name in SIDES:
            wheels(canvas, quad, (0.2, 0.8), 0.33, floor, sc.CAR)
            continue
        lamps(canvas, quad, name, 0.55, 0.2, 0.26)
        if z < 30:
            decal(canvas, quad, ((0.0, 1.0, 0.0, 0.2),), paint * 0.35)
            decal(canvas, quad, ((0.36, 0.64, 0.26, 0.46),), (225, 225, 215))


def truck(canvas: Canvas, rng: np.random.Generator, x: float, z: float, turn: float = 0.0) -> None:
    """A lorry: a cab in front and a windowless box behind it."""
    paint, box = choose(rng, LARGE_PAINT), choose(rng, LARGE_PAINT)
    length, roof, width, floor = rng.uniform(7, 9), rng.uniform(2.9, 3.5), 2.4, 0.55
    sin, cos = math.sin(turn), math.cos(turn)
    cab_at = (x + sin * (length / 2 - 0.9), z + cos * (length / 2 - 0.9))
    box_at = (x - sin, z - cos)
    base = floor + 0.3

    def cab() -> None:
        size = (width * 0.95, 1.8)
        for name, quad in prism(canvas, cab_at, size, (floor, 2.5), paint, sc.TRUCK, turn).items():
            if name in SIDES:
                decal(canvas, quad, ((0.2, 0.8, 0.55, 0.88),), GLASS, normal=GLOSSY)
                wheels(canvas, quad, (0.5,), 0.46, floor, sc.TRUCK)
            elif name == "front":
                decal(canvas, quad, ((0.06, 0.94, 0.5, 0.88),), GLASS, normal=GLOSSY)
                decal(canvas, quad, ((0.25, 0.75, 0.08, 0.3),), paint * 0.45)
                lamps(canvas, quad, name, 0.08, 0.16, 0.1)

    def load() -> None:
        size = (width, length - 2.2)
        prism(canvas, box_at, (width * 0.9, size[1]), (0.4, base), (48, 48, 52), sc.TRUCK, turn)
        for name, quad in prism(canvas, box_at, size, (base, roof), box, sc.TRUCK, turn).items():
            if name in SIDES:
                ribs = tuple((s / 8, s / 8 + 0.012, 0.04, 0.96) for s in range(1, 8))
                decal(canvas, quad, ribs, box * 0.78)
                wheels(canvas, quad, (0.14, 0.3), 0.46, base, sc.TRUCK)
            else:
                seams = ((0.49, 0.51, 0, 1), (0.1, 0.12, 0, 1), (0.88, 0.9, 0, 1))
                decal(canvas, quad, seams, box * 0.6)
                decal(canvas, quad, ((0, 1, 0, 0.05),), (170, 60, 45))
                lamps(canvas, quad, name, -0.1, 0.14, 0.06)

    for part in (cab, load) if cab_at[1] > box_at[1] else (load, cab):
        part()


def bus(canvas: Canvas, rng: np.random.Generator, x: float, z: float, turn: float = 0.0) -> None:
    """A city bus: one box, a row of tall windows, doors and a lit display."""
    paint = choose(rng, LARGE_PAINT)
    size, floor, roof = (2.5, rng.uniform(9.5, 11.5)), 0.32, rng.uniform(2.9, 3.2)
    windows = tuple((0.03 + s * 0.134, 0.15 + s * 0.134, 0.42, 0.86) for s in range(7))
    for name, quad in prism(canvas, (x, z), size, (floor, roof), paint, sc.BUS, turn).items():
        if name in SIDES:
            decal(canvas, quad, windows, GLASS, normal=GLOSSY)
            decal(canvas, quad, ((0.1, 0.2, 0.03, 0.86), (0.55, 0.67, 0.03, 0.86)), (45, 52, 62))
            wheels(canvas, quad, (0.26, 0.78), 0.46, floor, sc.BUS)
        else:
            decal(canvas, quad, ((0.06, 0.94, 0.42, 0.8),), GLASS, normal=GLOSSY)
            decal(canvas, quad, ((0.1, 0.9, 0.84, 0.96),), (28, 28, 30))
            decal(canvas, quad, ((0.2, 0.62, 0.87, 0.93),), (250, 170, 50), glow=True)
            decal(canvas, quad, ((0, 1, 0, 0.08),), paint * 0.5)
            lamps(canvas, quad, name, 0.14, 0.13, 0.1)


def train(canvas: Canvas, rng: np.random.Generator, x: float, z: float, turn: float = 0.0) -> None:
    """A tram: a sloping nose with a large windscreen, cars with a dark window band and a stripe."""
    del turn  # trams look alike from both ends
    paint, stripe = choose(rng, LARGE_PAINT), choose(rng, LARGE_PAINT)
    cars, pitch, width = int(rng.integers(2, 4)), 6.2, 2.4
    floor, roof, length = 0.22, rng.uniform(3.1, 3.4), pitch - 0.35
    first = z - (cars - 1) / 2 * pitch
    for k in reversed(range(cars)):
        nose = 0.0 if k else 0.5
        faces = prism(
            canvas, (x, first + k * pitch), (width, length), (floor, roof), paint, sc.TRAIN, 0.0,
            (width * 0.9, length - nose), nose / 2,
        )  # fmt: skip
        for name, quad in faces.items():
            if name in SIDES:
                decal(canvas, quad, ((0.02, 0.98, 0.45, 0.85),), GLASS, normal=GLOSSY)
                decal(canvas, quad, ((0, 1, 0.22, 0.34),), stripe)
                decal(canvas, quad, ((0.42, 0.6, 0.04, 0.88),), paint * 0.7)
                decal(canvas, quad, ((0, 1, 0, 0.1),), (50, 50, 54))
            elif k == 0:
                decal(canvas, quad, ((0.1, 0.9, 0.4, 0.86),), (40, 50, 64), normal=GLOSSY)
                decal(canvas, quad, ((0.3, 0.7, 0.88, 0.96),), (250, 190, 70), glow=True)
                decal(canvas, quad, ((0, 1, 0.14, 0.28),), stripe)
                lights = ((0.12, 0.24, 0.3, 0.37), (0.76, 0.88, 0.3, 0.37))
                decal(canvas, quad, lights, (250, 245, 225), glow=True)
                decal(canvas, quad, ((0.1, 0.9, 0, 0.1),), (45, 45, 50))
    for side in (-0.5, 0.5):  # pantograph
        foot, top = (x + side, roof, first + 2), (x - 0.4 * side, roof + 0.8, first + 1.2)
        stroke(canvas, foot, top, 0.06, (70, 70, 76), sc.TRAIN)
