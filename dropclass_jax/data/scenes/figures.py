"""People, two-wheelers, signs, lights and poles of the `streets` scenes, one function each.

Every function paints one flat figure that stands at `(x, z)`, in metres (some at a height `y`), and
knows nothing of its surroundings: what stands where is decided in `plan`. Looks overlap
where classes are easily confused: a cap looks like a helmet, both two-wheelers share their paint.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from dropclass_jax.data.scenes import canvas as sc
from dropclass_jax.data.scenes.canvas import Canvas, choose, discs, fill, outline, stroke, upright
from dropclass_jax.data.scenes.vehicles import CAR_PAINT, TYRE

# fmt: off
CLOTHES = [
    (45, 50, 65), (70, 85, 120), (150, 50, 50), (190, 180, 160), (60, 95, 70),
    (200, 140, 60), (110, 75, 120), (225, 225, 220), (90, 90, 95),
]
SKIN = [(224, 180, 150), (200, 150, 115), (150, 105, 78), (105, 72, 55)]
HELMETS = [(235, 235, 235), (40, 40, 45), (200, 50, 45), (60, 110, 190), (225, 200, 60)]
HAIR = [(50, 38, 30), (95, 70, 45), (30, 28, 28), (170, 140, 90), (150, 150, 150)]
# fmt: on


def bicycle(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, turn: float = 1.0
) -> None:
    """A bicycle; `turn`: how much of its side shows (1 all, 0 end on); its sign: where it heads."""
    paint, width = choose(rng, CAR_PAINT), abs(turn)
    radius, base = 0.35, 0.54 * turn

    def at(a: float, b: float) -> tuple[float, float, float]:
        return x + a * base, b, z

    for side in (-1, 1):
        rim = upright(x + side * base, radius, z, sc.ring() * (radius * max(width, 0.16), radius))
        sc.mark(canvas, rim, sc.BICYCLE)
        for i in (0, 5, 10):
            stroke(canvas, rim[i], rim[i - 7], 0.015, (165, 165, 170))
        outline(canvas, rim, 0.05, TYRE)
    joints = [(-1, 0.35), (-0.1, 0.32), (0.72, 0.78), (-0.35, 0.78), (-1, 0.35)]
    sc.mark(canvas, upright(x, 0, z, [(a * base, b) for a, b in joints]), sc.BICYCLE)
    joints = [*joints, (-0.35, 0.78), (-0.1, 0.32)]
    for a, b in pairwise(joints):
        stroke(canvas, at(*a), at(*b), 0.055, paint, sc.BICYCLE)
    stroke(canvas, at(1, 0.35), at(0.68, 1.0), 0.055, paint, sc.BICYCLE)
    stroke(canvas, at(-0.35, 0.78), at(-0.42, 0.95), 0.05, paint * 0.7, sc.BICYCLE)
    stroke(canvas, at(-0.65, 0.96), at(-0.2, 0.96), 0.08, (40, 35, 32), sc.BICYCLE)
    stroke(
        canvas,
        (x + 0.65 * base - 0.2, 1.02, z),
        (x + 0.65 * base + 0.2, 1.02, z),
        0.05,
        TYRE,
        sc.BICYCLE,
    )


def motorcycle(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, turn: float = 1.0
) -> None:
    """A motorcycle or scooter: fat tyres, a tank and a seat; `turn` as for the bicycle."""
    paint, width = choose(rng, CAR_PAINT), max(abs(turn), 0.2)
    base, radius = 0.66 * turn, 0.31

    def body(points, color) -> None:
        fill(canvas, upright(x, 0, z, [(a * base, b) for a, b in points]), color, sc.MOTORCYCLE)

    for side in (-1, 1):
        centre = upright(x + side * base, radius, z, sc.ring() * np.array([radius * width, radius]))
        fill(canvas, centre, TYRE, sc.MOTORCYCLE)
        fill(canvas, x_scaled(centre, 0.45), (130, 130, 135))
    sc.mark(
        canvas,
        upright(x, 0, z, [(-0.16, 0.2), (0.16, 0.2), (0.16, 0.85), (-0.16, 0.85)]),
        sc.MOTORCYCLE,
    )
    fill(
        canvas,
        upright(x, 0, z, [(-0.15, 0.18), (0.15, 0.18), (0.15, 0.86), (-0.15, 0.86)]),
        paint * 0.55,
    )
    body([(-0.75, 0.28), (0.5, 0.25), (0.6, 0.55), (-0.7, 0.6)], (62, 62, 68))
    if rng.random() < 0.4:  # a scooter's leg shield
        body(
            [
                (-1.1, 0.42),
                (-0.2, 0.3),
                (0.7, 0.3),
                (0.9, 0.95),
                (0.6, 0.95),
                (0.4, 0.45),
                (-0.2, 0.7),
                (-1.1, 0.75),
            ],
            paint,
        )
    else:
        body([(-0.25, 0.52), (0.7, 0.5), (0.72, 0.84), (0.3, 0.95), (-0.2, 0.78)], paint)
        body([(-1.25, 0.68), (-0.7, 0.5), (-0.6, 0.72), (-1.25, 0.84)], paint * 0.9)
    body([(-1.0, 0.76), (-0.1, 0.74), (-0.15, 0.84), (-1.0, 0.9)], (35, 32, 32))
    stroke(
        canvas,
        (x + base, radius, z),
        (x + 0.62 * base, 1.02, z),
        0.09,
        (140, 142, 148),
        sc.MOTORCYCLE,
    )
    stroke(
        canvas,
        (x + 0.6 * base - 0.26, 1.04, z),
        (x + 0.6 * base + 0.26, 1.04, z),
        0.06,
        TYRE,
        sc.MOTORCYCLE,
    )
    lamp = (250, 240, 200) if turn > 0 else (210, 45, 40)
    discs(canvas, z, [(x + 0.85 * base, 0.86, 0.1)], [lamp], sc.MOTORCYCLE, glow=True)


def x_scaled(points: np.ndarray, scale: float) -> np.ndarray:
    """A figure shrunk towards its middle."""
    middle = points.mean(0)
    return middle + scale * (points - middle)


def person(canvas: Canvas, rng: np.random.Generator, x: float, z: float, turn: float = 1.0) -> None:
    """Somebody standing or walking."""
    coat, legs = choose(rng, CLOTHES), choose(rng, CLOTHES) * 0.8
    skin, size = choose(rng, SKIN, 8), rng.uniform(0.9, 1.08)
    step = rng.uniform(-0.3, 0.3)
    head_gear = choose(rng, HELMETS if rng.random() < 0.2 else HAIR)

    def at(a: float, b: float) -> tuple[float, float, float]:
        return x + a * size, b * size, z

    for foot in (-step, step):
        sway = 0.08 if foot > 0 else -0.08
        stroke(canvas, at(sway * 0.8, 0.85), at(foot + sway * 0.5, 0.08), 0.17, legs, sc.PERSON)
    trunk = [(-0.2, 0.78), (0.2, 0.78), (0.25, 1.42), (0.1, 1.5), (-0.1, 1.5), (-0.25, 1.42)]
    fill(canvas, upright(x, 0, z, np.array(trunk) * size), coat, sc.PERSON)
    for side in (-1, 1):
        stroke(
            canvas,
            at(0.25 * side, 1.36),
            at(0.28 * side + step * 0.6, 0.85),
            0.11,
            coat * 0.85,
            sc.PERSON,
        )
    if rng.random() < 0.3:
        bag = np.array([(-0.34, 0.9), (-0.14, 0.9), (-0.14, 1.25), (-0.34, 1.25)]) * [
            np.sign(turn),
            1,
        ]
        fill(canvas, upright(x, 0, z, bag * size), choose(rng, CLOTHES), sc.PERSON)
    face = x + 0.02 * size * np.sign(turn)
    figures = [(x, 1.62 * size, 0.13), (face, 1.6 * size, 0.1)]
    discs(canvas, z, figures, [head_gear, skin], sc.PERSON)


def rider(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, turn: float = 1.0, y: float = 0.0
) -> None:
    """Somebody sitting astride, leaning to the handlebar, knees bent, mostly with a helmet.

    `y` lifts the whole figure; on the ground (no two-wheeler) it is lowered so that the feet stand.
    """
    coat, legs = choose(rng, CLOTHES), choose(rng, CLOTHES) * 0.8
    skin, lean = choose(rng, SKIN, 8), rng.uniform(0.12, 0.5)
    head_gear = choose(rng, HELMETS if rng.random() < 0.8 else HAIR)

    def at(a: float, b: float) -> tuple[float, float, float]:
        return x + a * turn, y + b, z

    neck = (-0.3 + lean, 1.5 - 0.3 * lean)
    for side, knee, foot in ((-1, (0.12, 0.72), (0.02, 0.3)), (1, (0.2, 0.84), (-0.12, 0.4))):
        spread = 0.15 * side * (1 - abs(turn))  # knees stand out when seen end on
        hip = (x - 0.22 * turn + 0.4 * spread, y + 0.98, z)
        bend = (x + knee[0] * turn + 1.5 * spread, y + knee[1], z)
        stroke(canvas, hip, bend, 0.2, legs, sc.RIDER)
        stroke(
            canvas, bend, (x + foot[0] * turn + spread, y + foot[1], z), 0.15, legs * 0.85, sc.RIDER
        )
    broad = 0.32 + 0.12 * (1 - abs(turn))
    stroke(canvas, at(-0.25, 1.0), at(neck[0], neck[1] - 0.16), broad, coat, sc.RIDER)
    hand = (0.4, 1.06)
    for side in (-1, 1):
        spread = 0.26 * side * (1 - abs(turn))
        shoulder = (x + neck[0] * turn + spread, y + neck[1] - 0.1, z)
        stroke(
            canvas,
            shoulder,
            (x + hand[0] * turn + spread, y + hand[1], z),
            0.11,
            coat * 0.85,
            sc.RIDER,
        )
    across, up = x + (neck[0] + 0.06) * turn, y + neck[1] + 0.14
    figures = [
        (across, up, 0.14),
        (across + 0.05 * turn, up - 0.06, 0.1),
        (across, up + 0.03, 0.13),
    ]
    discs(canvas, z, figures, [head_gear * 0.8, skin, head_gear], sc.RIDER)


def traffic_sign(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, y: float = 2.3
) -> None:
    """A sign plate, its lower edge `y` metres up."""
    kind, radius = int(rng.integers(6)), rng.uniform(0.36, 0.52)
    red, blue = choose(rng, [(195, 40, 40)], 10), choose(rng, [(40, 85, 165)], 10)
    white, yellow = choose(rng, [(235, 235, 230)], 6), choose(rng, [(240, 195, 60)], 8)
    circle = sc.ring(14)
    triangle = np.array([(-1.0, -0.8), (1.0, -0.8), (0.0, 1.0)])
    square = np.array([(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)])
    octagon = sc.ring(8) @ np.array([[0.92, 0.38], [-0.38, 0.92]])
    diamond = sc.ring(4)
    outer, inner, colors = [
        (circle, circle * 0.7, (red, white)),
        (triangle, triangle * 0.58, (red, white)),
        (circle, np.array([(-0.6, -0.14), (0.6, -0.14), (0.6, 0.14), (-0.6, 0.14)]), (red, white)),
        (square, triangle * 0.5, (blue, white)),
        (octagon, np.array([(-0.6, -0.16), (0.6, -0.16), (0.6, 0.16), (-0.6, 0.16)]), (red, white)),
        (diamond, diamond * 0.68, (white, yellow)),
    ][kind]
    fill(canvas, upright(x, y + radius, z, outer * radius), colors[0], sc.TRAFFIC_SIGN)
    fill(canvas, upright(x, y + radius, z, inner * radius), colors[1])


def traffic_light(
    canvas: Canvas, rng: np.random.Generator, x: float, z: float, y: float = 2.4
) -> None:
    """A signal head with three lamps, one of them lit, its lower edge `y` metres up."""
    wide, tall = 0.19, 1.02
    fill(
        canvas,
        upright(x, y, z, [(-wide, 0), (wide, 0), (wide, tall), (-wide, tall)]),
        choose(rng, [(36, 40, 40)], 6),
        sc.TRAFFIC_LIGHT,
    )
    lit = int(rng.integers(3))
    bright, dim = (
        [(60, 230, 130), (255, 190, 50), (255, 60, 45)],
        [(30, 60, 45), (75, 60, 30), (75, 32, 30)],
    )
    for k in range(3):
        color = bright[k] if k == lit else dim[k]
        discs(canvas, z, [(x, y + 0.19 + 0.32 * k, 0.13)], [color], glow=k == lit)


def pole(
    canvas: Canvas,
    rng: np.random.Generator,
    x: float,
    z: float,
    height: float = 3.4,
    arm: float = 0.0,
) -> None:
    """A post; with an arm (metres, signed) it is a street lamp."""
    color = choose(rng, [(120, 124, 126), (90, 98, 96), (150, 150, 146)], 8)
    thick = 0.1 if arm == 0 else 0.14
    stroke(canvas, (x, 0, z), (x, height, z), thick, color, sc.POLE)
    if arm:
        stroke(canvas, (x, height, z), (x + arm, height + 0.3, z), 0.1, color, sc.POLE)
        lit = canvas.light.lamps > 0.4
        stroke(
            canvas,
            (x + arm * 0.8, height + 0.24, z),
            (x + arm * 1.2, height + 0.3, z),
            0.16,
            (255, 225, 160) if lit else color * 0.8,
            sc.POLE,
            glow=lit,
        )
