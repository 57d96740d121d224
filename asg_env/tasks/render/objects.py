"""VisDA-17's twelve classes as small parametric models. All numbers are shape, in free units."""

from __future__ import annotations

import numpy as np

from asg_env.tasks.render.parts import Design, Paint, Sculpture

BODY, TRIM, DARK, GLASS, METAL, WOOD, LEAF, COAT, SKIN, PALE = Paint


def aeroplane(s: Sculpture) -> None:
    """A fuselage, swept wings, a tail and two engines."""
    girth, span, sweep = s.draw(0.12, 0.18), s.draw(0.75, 1.1), s.draw(0.15, 0.5)
    chord, fin = s.draw(0.16, 0.26), s.draw(0.25, 0.42)
    s.ball((0, 0, 0), (1, girth, girth), BODY)
    s.ball((0.82, 0, girth * 0.35), (0.1, girth * 0.5, girth * 0.3), DARK)
    for side in (-1, 1):
        tip = (0.1 - sweep, side * span, 0.06)
        s.rod((0.1, 0, -0.03), tip, (chord, 0.04), BODY, 0.4, (1, 0, 0))
        tail = (-0.95 - sweep * 0.2, side * span * 0.4, 0.06)
        s.rod((-0.82, 0, 0.04), tail, (chord * 0.6, 0.03), TRIM, 0.5, (1, 0, 0))
        y, x = side * span * 0.4, 0.14 - sweep * 0.4
        s.rod((x + 0.16, y, -0.09), (x - 0.12, y, -0.09), 0.065, METAL, 0.8)
    s.rod((-0.8, 0, 0.03), (-0.98, 0, fin), (0.19, 0.03), TRIM, 0.5, (1, 0, 0))


def bicycle(s: Sculpture) -> None:
    """Two thin wheels, a diamond frame, a saddle and a handlebar."""
    wheel, base, tube = s.draw(0.3, 0.37), s.draw(0.42, 0.52), s.draw(0.025, 0.035)
    saddle, bar = s.draw(0.62, 0.78), s.draw(0.68, 0.85)
    seat, crank, head = (-0.2, 0, saddle), (-0.06, 0, wheel * 0.85), (base - 0.14, 0, bar - 0.08)
    rear, front = (-base, 0, wheel), (base, 0, wheel)
    for hub in (rear, front):
        for y in (-0.03, 0.03):
            s.ring((hub[0], y, hub[2]), wheel, 0.8, DARK)
    for start, end in (
        *((seat, crank), (crank, head), ((-0.17, 0, saddle - 0.1), head), (rear, crank)),
        *((rear, (-0.17, 0, saddle - 0.1)), ((base - 0.16, 0, bar), front)),
    ):
        s.rod(start, end, tube, BODY)
    s.ball((-0.21, 0, saddle), (0.13, 0.06, 0.035), DARK)
    s.rod((base - 0.16, -0.2, bar), (base - 0.16, 0.2, bar), 0.03, DARK)
    s.wheel(crank, 0.075, 0.04, METAL)


def bus(s: Sculpture) -> None:
    """A long tall box with a row of windows."""
    length, height, width = s.draw(0.95, 1.25), s.draw(0.29, 0.36), s.draw(0.24, 0.3)
    floor, wheel = 0.13, s.draw(0.11, 0.14)
    middle = floor + height
    s.box((0, 0, middle), (length, width, height), BODY)
    s.box((0, 0, middle + height), (length * 0.97, width * 0.9, 0.03), PALE)
    for column in range(5):
        x = length * (-0.74 + 0.34 * column)
        s.box((x, 0, middle + height * 0.3), (length * 0.13, width + 0.01, height * 0.36), GLASS)
    for end in (-1, 1):
        s.box((end * length, 0, middle + height * 0.25), (0.01, width * 0.85, height * 0.5), GLASS)
        s.wheel((end * length * 0.62, 0, wheel), wheel, width + 0.02, DARK)
        s.wheel((end * length * 0.62, 0, wheel), wheel * 0.45, width + 0.03, METAL)
    s.box((0, 0, middle - height * 0.45), (length + 0.01, width + 0.01, height * 0.09), TRIM)


def car(s: Sculpture) -> None:
    """A low body, a tapering glass cabin set back, four wheels."""
    length, width, low = s.draw(0.8, 0.95), s.draw(0.34, 0.4), s.draw(0.11, 0.15)
    cabin, back, wheel = s.draw(0.4, 0.55), s.draw(-0.3, 0.0), s.draw(0.15, 0.19)
    top = wheel + 2 * low
    roof = top + s.draw(0.2, 0.28)
    s.box((0, 0, wheel + low), (length * 0.85, width, low), BODY)
    s.ball((0, 0, wheel + low), (length, width * 0.98, low * 0.95), BODY)
    s.rod((back, 0, top), (back - 0.02, 0, roof), (cabin, width * 0.98), GLASS, 0.68, (1, 0, 0))
    half = width * 0.7
    s.ball((back - 0.02, 0, roof), (cabin * 0.72, half, 0.05), BODY)
    for end in (-1, 1):
        s.wheel((end * length * 0.58, 0, wheel), wheel, width + 0.02, DARK)
        s.wheel((end * length * 0.58, 0, wheel), wheel * 0.5, width + 0.03, METAL)
        y = end * width * 0.65
        s.ball((length * 0.9, y, wheel + low * 1.2), (0.07, 0.08, 0.05), PALE)


def horse(s: Sculpture) -> None:
    """A barrel on four legs, a raised neck with a mane, a long head and a tail."""
    leg, barrel, neck = s.draw(0.5, 0.65), s.draw(0.19, 0.25), s.draw(0.35, 0.5)
    lean, stride, length = s.draw(0.25, 0.4), s.toss(0.0, 0.25), s.draw(0.5, 0.6)
    back = leg + barrel
    s.ball((0, 0, back), (length, barrel * 0.85, barrel), COAT)
    poll = (length * 0.75 + lean, 0, back + neck)
    s.rod((length * 0.6, 0, back), poll, (0.17, 0.1), COAT, 0.55, (1, 0, 0.5))
    muzzle = (length * 0.75 + lean + 0.32, 0, back + neck - 0.2)
    s.rod((poll[0] - 0.08, 0, poll[2] + 0.05), muzzle, 0.1, COAT, 0.65)
    for side in (-1, 1):
        y = side * barrel * 0.45
        s.rod((length * 0.6, y, back), (length * 0.6 + side * stride, y, 0), 0.085, COAT, 0.6)
        s.rod((-length * 0.65, y, back), (-length * 0.65 - side * stride, y, 0), 0.1, COAT, 0.5)
        s.rod(
            (poll[0] - 0.03, y * 0.5, poll[2]),
            (poll[0] - 0.05, y * 0.6, poll[2] + 0.18),
            0.04,
            COAT,
            0,
        )
    s.rod((length * 0.45, 0, back + 0.2), (poll[0] - 0.12, 0, poll[2]), (0.1, 0.04), DARK)
    s.rod((-length * 0.9, 0, back + 0.08), (-length - 0.18, 0, leg * 0.6), 0.09, DARK, 0.4)


def knife(s: Sculpture) -> None:
    """A flat pointed blade, a guard and a riveted handle; it stands on its point."""
    blade, depth, grip = s.draw(0.9, 1.3), s.draw(0.12, 0.2), s.draw(0.5, 0.7)
    x = depth * 0.3
    s.rod((0, 0, 0), (0, 0, -blade * 0.6), (depth, 0.025), METAL, 0.95, (1, 0, 0))
    s.rod((0, 0, -blade * 0.6), (x, 0, -blade), (depth * 0.95, 0.024), METAL, 0.0, (1, 0, 0))
    s.box((-depth * 0.6, 0, -blade * 0.3), (depth * 0.4, 0.02, blade * 0.3), METAL)
    s.box((0, 0, 0.03), (depth * 1.15, 0.06, 0.035), DARK)
    s.rod((0, 0, 0.05), (0, 0, grip), (depth * 0.62, 0.06), WOOD, 1.1, (1, 0, 0))
    s.ball((0, 0, grip), (depth * 0.7, 0.065, 0.08), WOOD)
    for rivet in (0.3, 0.7):
        s.wheel((0, 0, grip * rivet), 0.035, 0.07, PALE)


def motorcycle(s: Sculpture) -> None:
    """Two thick wheels, a tank, a seat, an engine, a raked fork and an exhaust."""
    wheel, base, tank = s.draw(0.27, 0.33), s.draw(0.52, 0.65), s.draw(0.22, 0.29)
    rake, bar = s.draw(0.15, 0.32), s.draw(0.8, 0.95)
    for x in (-base, base):
        s.wheel((x, 0, wheel), wheel, 0.075, DARK)
        s.wheel((x, 0, wheel), wheel * 0.55, 0.085, METAL)
    s.ball((0.1, 0, 0.66), (tank, 0.13, 0.13), BODY)
    s.box((-0.32, 0, 0.64), (0.26, 0.11, 0.06), DARK, -0.15)
    s.ball((-base, 0, wheel + 0.2), (0.3, 0.09, 0.12), BODY)
    s.box((0.0, 0, 0.4), (0.22, 0.12, 0.17), METAL, 0.3)
    for y in (-0.08, 0.08):
        s.rod((base, y, wheel), (base - rake, y, bar), 0.035, METAL)
    s.rod((base - rake, -0.32, bar), (base - rake, 0.32, bar), 0.035, DARK)
    s.ball((base - rake + 0.07, 0, bar - 0.1), (0.08, 0.1, 0.1), PALE)
    s.rod((0.05, 0.16, 0.25), (-base - 0.15, 0.16, 0.3), 0.055, METAL, 1.3)


def person(s: Sculpture) -> None:
    """A head, a torso, arms and legs in some posture."""
    shoulder, hip, leg = s.draw(0.17, 0.24), s.draw(0.1, 0.15), s.draw(0.75, 0.9)
    torso, stride = s.draw(0.5, 0.6), s.toss(-0.25, 0.25)
    neck = leg + torso
    s.ball((0, 0, neck + 0.19), (0.13, 0.11, 0.15), SKIN)
    s.ball((-0.03, 0, neck + 0.24), (0.125, 0.12, 0.13), DARK)
    s.rod((0, 0, leg - 0.05), (0, 0, neck), (0.11, hip * 1.15), BODY, 1.35, (1, 0, 0))
    s.ball((0, 0, neck), (0.12, shoulder, 0.08), BODY)
    for side in (-1, 1):
        y = side * hip * 0.65
        s.rod((0, y, leg), (side * stride, y * 1.2, 0.04), 0.105, TRIM, 0.6)
        s.ball((side * stride + 0.06, y * 1.2, 0.04), (0.13, 0.06, 0.05), DARK)
        out, swing = s.toss(0.05, 0.35), s.toss(-0.3, 0.3)
        y = side * shoulder
        hand = (swing, y + side * out, neck - 0.55 + out * 0.4)
        elbow = (swing * 0.4, y + side * out * 0.7, neck - 0.3)
        s.rod((0, y, neck - 0.01), elbow, 0.065, BODY, 0.9)
        s.rod(elbow, hand, 0.055, SKIN, 0.8)


def plant(s: Sculpture) -> None:
    """A flower pot with leaves that spread from its middle."""
    pot, tall, reach = s.draw(0.22, 0.32), s.draw(0.35, 0.5), s.draw(0.4, 0.6)
    width = s.draw(0.07, 0.13)
    s.rod((0, 0, tall), (0, 0, 0), pot, TRIM, 0.65)
    s.rod((0, 0, tall), (0, 0, tall * 0.82), pot * 1.12, TRIM)
    leaves = 8
    for leaf in range(leaves):
        angle = 2 * np.pi * leaf / leaves * 2.4 + s.toss(-0.3, 0.3)
        rise = s.toss(0.25, 1.1) + 0.15 * (leaf % 2)
        far = reach * s.toss(0.75, 1.1)
        x, y, z = np.cos(angle) * np.cos(rise), np.sin(angle) * np.cos(rise), np.sin(rise)
        centre = (x * far * 0.62, y * far * 0.62, tall + z * far * 0.75)
        s.ball(centre, (0.035, width, far * 0.55), LEAF, (x, y, z))


def skateboard(s: Sculpture) -> None:
    """A deck with raised ends on two axles and four small wheels."""
    length, width, kick = s.draw(0.6, 0.8), s.draw(0.2, 0.27), s.draw(0.3, 0.6)
    wheel, thick = s.draw(0.08, 0.11), 0.028
    deck = wheel * 2 + 0.07
    s.box((0, 0, deck), (length, width, thick), BODY)
    for end in (-1, 1):
        x, z = end * (length + 0.17 * np.cos(kick)), deck + 0.17 * np.sin(kick)
        s.box((x, 0, z), (0.18, width * 0.9, thick), BODY, end * kick)
        tip = (end * (length + 0.33 * np.cos(kick)), 0, deck + 0.33 * np.sin(kick))
        s.ball(tip, (0.13, width * 0.88, thick * 1.2), BODY)
        x = end * length * 0.72
        s.box((x, 0, deck - 0.07), (0.07, width * 0.6, 0.05), METAL)
        for side in (-1, 1):
            s.wheel((x, side * width * 0.85, wheel), wheel, 0.07, PALE)


def train(s: Sculpture) -> None:
    """A steam locomotive on rails: boiler, chimney, dome, cab, driving wheels, tender."""
    boiler, wheel, cab = s.draw(0.19, 0.25), s.draw(0.14, 0.19), s.draw(0.3, 0.4)
    axis = 2 * wheel + boiler
    s.rod((-0.25, 0, axis), (0.95, 0, axis), boiler, BODY, across=(0, 1, 0))
    s.rod((0.95, 0, axis), (1.0, 0, axis), boiler * 0.85, DARK, across=(0, 1, 0))
    s.rod((0.72, 0, axis), (0.72, 0, axis + boiler + cab * 0.9), 0.075, DARK, 1.6)
    s.ball((0.25, 0, axis + boiler), (0.13, 0.12, 0.15), METAL)
    s.box((-0.42, 0, axis + 0.08), (0.2, 0.28, boiler + 0.14), TRIM)
    s.box((-0.42, 0, axis + boiler + 0.24), (0.27, 0.32, 0.035), DARK)
    s.box((-0.42, 0, axis + 0.16), (0.11, 0.29, 0.1), GLASS)
    s.box((0.15, 0, 2 * wheel), (0.85, 0.2, 0.05), DARK)
    s.box((-1.05, 0, axis - 0.06), (0.36, 0.27, boiler), BODY)
    for x in (-0.3, 0.1, 0.5):
        s.wheel((x, 0, wheel), wheel, 0.27, DARK)
        s.wheel((x, 0, wheel), wheel * 0.6, 0.28, TRIM)
    s.wheel((-1.05, 0, wheel * 0.8), wheel * 0.8, 0.27, DARK)
    s.rod((0.98, 0, wheel * 1.6), (1.2, 0, 0.03), (0.24, 0.12), METAL, 0.4, (0, 1, 0))
    for y in (-0.24, 0.24):
        s.box((-0.1, y, -0.03), (1.4, 0.035, 0.03), METAL)


def truck(s: Sculpture) -> None:
    """A cab in front of a taller, separate cargo box, on six wheels."""
    cargo, tall, cab = s.draw(0.6, 0.75), s.draw(0.36, 0.46), s.draw(0.28, 0.36)
    wheel, width = s.draw(0.13, 0.17), s.draw(0.29, 0.34)
    floor, front = 2 * wheel, 0.62
    s.box((front - 0.4 - cargo, 0, floor + tall), (cargo, width, tall), BODY)
    s.box((front - 0.5 - cargo / 2, 0, wheel + 0.04), (cargo + 0.25, width * 0.6, 0.05), DARK)
    s.box((front, 0, wheel * 0.8 + cab), (0.26, width * 0.92, cab), TRIM)
    s.box((front + 0.32, 0, wheel + cab * 0.5), (0.14, width * 0.85, cab * 0.5), TRIM)
    s.box((front + 0.04, 0, wheel * 0.8 + cab * 1.4), (0.14, width * 0.93, cab * 0.34), GLASS)
    s.box((front + 0.26, 0, wheel * 0.8 + cab * 1.4), (0.01, width * 0.8, cab * 0.36), GLASS)
    s.box((front + 0.46, 0, wheel + cab * 0.2), (0.02, width * 0.85, cab * 0.18), METAL)
    rear = front - 0.4 - 2 * cargo
    for x in (front + 0.18, rear + 0.25, rear + 0.62):
        s.wheel((x, 0, wheel), wheel, width + 0.01, DARK)
        s.wheel((x, 0, wheel), wheel * 0.5, width + 0.02, METAL)


NEW_OBJECTS: dict[str, Design] = {
    design.__name__: design
    for design in (
        *(aeroplane, bicycle, bus, car, horse, knife),
        *(motorcycle, person, plant, skateboard, train, truck),
    )
}
"""VisDA-17's classes, in its order: the k-th is label k."""
