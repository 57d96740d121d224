"""Twelve other classes, which the teacher knows. All numbers are shape, in free units."""

from __future__ import annotations

from asg_env.tasks.render.parts import Design, Paint, Sculpture

BODY, TRIM, DARK, GLASS, METAL, WOOD, LEAF, COAT, SKIN, PALE = Paint


def bed(s: Sculpture) -> None:
    """A mattress with a blanket and pillows between a high head and a low foot."""
    length, width, head = s.draw(0.8, 1.0), s.draw(0.45, 0.6), s.draw(0.5, 0.7)
    s.box((0, 0, 0.22), (length, width, 0.08), WOOD)
    s.box((0, 0, 0.36), (length * 0.97, width * 0.96, 0.1), PALE)
    s.box((length * 0.3, 0, 0.4), (length * 0.66, width * 1.0, 0.1), BODY)
    s.box((-length, 0, head * 0.75), (0.05, width, head * 0.75), WOOD)
    s.box((length, 0, 0.25), (0.05, width, 0.25), WOOD)
    for side in (-1, 1):
        s.ball((-length * 0.72, side * width * 0.48, 0.52), (0.17, width * 0.36, 0.09), PALE)


def boat(s: Sculpture) -> None:
    """A hull with a mast and two sails."""
    length, beam, mast = s.draw(0.75, 0.95), s.draw(0.24, 0.34), s.draw(1.1, 1.5)
    s.ball((0, 0, 0.3), (length, beam, 0.32), BODY, (0, 0, -1), 0.0)
    s.rod((0, 0, 0.28), (0, 0, 0.32), (length * 0.97, beam * 0.95), WOOD, across=(1, 0, 0))
    s.rod((0.05, 0, 0.3), (0.05, 0, 0.3 + mast), 0.03, WOOD)
    s.rod((-0.3, 0.02, 0.45), (0.0, 0.02, 0.28 + mast), (0.33, 0.015), PALE, 0.05, (1, 0, 0))
    s.rod((0.3, -0.02, 0.42), (0.1, -0.02, 0.2 + mast), (0.22, 0.015), TRIM, 0.05, (1, 0, 0))
    s.box((-0.35, 0, 0.4), (0.16, beam * 0.5, 0.09), PALE)


def bottle(s: Sculpture) -> None:
    """A cylinder with a shoulder, a neck, a cap and a label."""
    radius, tall, neck = s.draw(0.22, 0.32), s.draw(0.7, 0.95), s.draw(0.3, 0.5)
    shoulder = tall + radius * 0.9
    s.rod((0, 0, 0), (0, 0, tall), radius, LEAF)
    s.rod((0, 0, tall), (0, 0, shoulder), radius, LEAF, 0.36)
    s.rod((0, 0, shoulder), (0, 0, shoulder + neck), radius * 0.36, LEAF)
    s.rod((0, 0, shoulder + neck), (0, 0, shoulder + neck + 0.1), radius * 0.44, TRIM)
    s.rod((0, 0, tall * 0.25), (0, 0, tall * 0.75), radius * 1.02, PALE)
    s.box((radius * 0.6, 0, tall * 0.5), (radius * 0.44, radius * 0.4, tall * 0.12), BODY)


def chair(s: Sculpture) -> None:
    """A seat and a back on four legs."""
    seat, width, back = s.draw(0.45, 0.6), s.draw(0.26, 0.34), s.draw(0.55, 0.75)
    s.box((0, 0, seat), (width, width, 0.045), BODY)
    for y in (-1, 1):
        s.rod(
            (-width * 0.9, y * width * 0.88, seat),
            (-width - 0.06, y * width * 0.88, seat + back),
            0.04,
            WOOD,
        )
        for x in (-1, 1):
            foot = (x * width * 1.02, y * width * 1.0, 0)
            s.rod((x * width * 0.85, y * width * 0.85, seat), foot, 0.045, WOOD, 0.8)
    for height in (0.45, 0.85):
        s.box((-width - 0.03, 0, seat + back * height), (0.03, width * 0.9, back * 0.13), BODY)


def guitar(s: Sculpture) -> None:
    """Two flat round bouts, a sound hole, a long neck and a head."""
    lower, upper, neck = s.draw(0.36, 0.44), s.draw(0.26, 0.32), s.draw(0.85, 1.05)
    depth = s.draw(0.08, 0.12)
    waist = lower + upper * 0.75
    s.wheel((0, 0, 0), lower, depth, WOOD)
    s.wheel((0, 0, waist), upper, depth, WOOD)
    s.box((0, 0, lower * 0.7), (upper * 0.7, depth, lower * 0.3), WOOD)
    s.wheel((0, 0, waist * 0.62), 0.13, depth + 0.01, DARK)
    s.box((0, 0, -0.05), (0.14, depth + 0.03, 0.035), DARK)
    top = waist + neck
    s.box((0, 0, (waist + top) / 2), (0.05, depth + 0.02, (top - waist) / 2), DARK)
    s.box((0, 0, top + 0.1), (0.09, depth * 0.6, 0.14), TRIM)


def house(s: Sculpture) -> None:
    """Walls under a gable roof, with a door, windows and a chimney."""
    length, width, wall = s.draw(0.55, 0.75), s.draw(0.4, 0.55), s.draw(0.28, 0.38)
    rise = s.draw(0.3, 0.5)
    s.box((0, 0, wall), (length, width, wall), PALE)
    gable = 2 * wall
    for side in (-1, 1):
        top, eaves = (0, 0, gable + rise), (0, side * width * 1.15, gable - 0.06)
        s.rod(top, eaves, (length * 1.1, 0.05), TRIM, across=(1, 0, 0))
    for share in (0.0, 0.35, 0.7):
        inside = width * (0.93 - share * 0.85)
        s.box((0, 0, gable + rise * (share + 0.1)), (length, inside, rise * 0.16), PALE)
    s.box((length * 0.5, width * 0.4, gable + rise * 0.8), (0.08, 0.08, 0.24), BODY)
    s.box((0, 0, 0.2), (0.1, width + 0.01, 0.2), WOOD)
    for x in (-0.62, 0.62):
        s.box((x * length, 0, wall * 1.2), (0.11, width + 0.01, 0.1), GLASS)
    s.box((0, 0, wall * 1.2), (length + 0.01, 0.13, 0.12), GLASS)


def lamp(s: Sculpture) -> None:
    """A foot, a pole and a wide shade."""
    pole, shade, tall = s.draw(0.6, 0.9), s.draw(0.35, 0.48), s.draw(0.35, 0.48)
    s.rod((0, 0, 0), (0, 0, 0.08), 0.27, METAL, 0.8)
    s.rod((0, 0, 0.05), (0, 0, pole + 0.1), 0.045, METAL)
    s.ball((0, 0, pole * 0.35), (0.12, 0.12, 0.15), BODY)
    s.rod((0, 0, pole), (0, 0, pole + tall), shade, PALE, 0.55)
    s.rod((0, 0, pole), (0, 0, pole + 0.05), shade * 1.02, TRIM, 0.97)


def mug(s: Sculpture) -> None:
    """A wide cylinder, dark inside, with a ring for a handle."""
    radius, tall, grip = s.draw(0.4, 0.52), s.draw(0.85, 1.1), s.draw(0.28, 0.36)
    s.rod((0, 0, 0), (0, 0, tall), radius, BODY, 1.05)
    s.rod((0, 0, tall), (0, 0, tall + 0.01), radius * 0.9, DARK)
    for y in (-0.05, 0.0, 0.05):
        s.ring((radius + grip * 0.45, y, tall * 0.5), grip, 0.68, BODY)
    s.rod((0, 0, tall * 0.7), (0, 0, tall * 0.8), radius * 1.05, TRIM)


def snowman(s: Sculpture) -> None:
    """Three balls, a hat, a carrot nose, buttons and arms."""
    base, ratio = s.draw(0.4, 0.5), s.draw(0.68, 0.78)
    middle, head = base * ratio, base * ratio * ratio
    belly, face = base * 1.75 + middle * 0.6, base * 1.75 + middle * 1.9
    s.ball((0, 0, base), (base, base, base), PALE)
    s.ball((0, 0, belly), (middle, middle, middle), PALE)
    face = face + head * 0.4
    s.ball((0, 0, face), (head, head, head), PALE)
    s.rod((0, 0, face + head * 0.75), (0, 0, face + head * 0.85), head * 1.25, DARK)
    s.rod((0, 0, face + head * 0.8), (0, 0, face + head * 1.9), head * 0.8, DARK)
    s.rod((head * 0.8, 0, face), (head * 2.0, 0, face - 0.02), head * 0.24, SKIN, 0)
    s.rod((0, 0, face - head * 1.0), (0, 0, face - head * 0.75), head * 0.95, TRIM)
    for side in (-1, 1):
        s.rod(
            (0, side * middle * 0.8, belly), (0, side * (middle + 0.4), belly + 0.22), 0.035, WOOD
        )
    s.ball((middle * 0.95, 0, belly), (0.05, 0.05, 0.05), DARK)


def table(s: Sculpture) -> None:
    """A wide top on four legs."""
    length, width, tall = s.draw(0.75, 1.0), s.draw(0.4, 0.6), s.draw(0.5, 0.7)
    s.box((0, 0, tall), (length, width, 0.045), WOOD)
    s.box((0, 0, tall - 0.1), (length * 0.88, width * 0.85, 0.06), TRIM)
    for x in (-1, 1):
        for y in (-1, 1):
            leg = (x * length * 0.86, y * width * 0.82, tall - 0.05)
            s.rod(leg, (leg[0], leg[1], 0), 0.06, WOOD, 0.7)


def tree(s: Sculpture) -> None:
    """A trunk and a crown of balls."""
    trunk, crown = s.draw(0.5, 0.75), s.draw(0.3, 0.4)
    s.rod((0, 0, 0), (0, 0, trunk + 0.2), 0.11, WOOD, 0.6)
    s.ball((0, 0, trunk + crown * 1.5), (crown, crown, crown * 1.1), LEAF)
    for turn in ((0.8, 0.3, 0.75), (-0.7, 0.5, 0.8), (-0.2, -0.8, 0.7), (0.35, -0.4, 1.9)):
        x, y, z = turn
        size = crown * s.toss(0.65, 0.9)
        s.ball((x * crown, y * crown, trunk + z * crown), (size, size, size * 0.9), LEAF)


def umbrella(s: Sculpture) -> None:
    """An open dome on a thin pole with a hook."""
    radius, height, pole = s.draw(0.65, 0.8), s.draw(0.38, 0.5), s.draw(0.95, 1.15)
    s.ball((0, 0, pole - height * 0.3), (radius, radius, height * 1.1), BODY, (0, 0, 1), 0.2)
    s.rod((0, 0, 0.05), (0, 0, pole + height), 0.03, METAL)
    for y in (-0.03, 0.03):
        s.ring((0.1, y, 0.06), 0.13, 0.55, WOOD)


OLD_OBJECTS: dict[str, Design] = {
    design.__name__: design
    for design in (
        *(bed, boat, bottle, chair, guitar, house),
        *(lamp, mug, snowman, table, tree, umbrella),
    )
}
"""The teacher's classes: the k-th is its label k."""
