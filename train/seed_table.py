"""Arms by seeds: one measure of every single run, and its paired difference to the first arm."""

from collections.abc import Sequence

from train.matrix import HELD_OUT, MEAN, Arm, names_of, paired


def seed_rows(arms: Sequence[Arm]) -> tuple[list[str], list[list[str]]] | None:
    """A row an arm, a column a seed; the first measure that all runs have, scores before losses.

    Returns:
        Headings and rows; None where every arm has one run.
    """
    seeds = list(dict.fromkeys(seed for arm in arms for seed in arm.runs))
    measure = _measure(arms)
    if measure is None or len(seeds) < 2:
        return None
    names = [f"seed {a}" if a == b else f"seeds {a}, {b}" for a, b in seeds]
    against = f"less {arms[0].name}, paired"
    body = []
    for arm in arms:
        values = [arm.runs.get(seed, {}).get(measure) for seed in seeds]
        difference = None if arm is arms[0] else paired(arms[0], arm, measure)
        cells = ["–" if value is None else f"{value:.4f}" for value in values]
        body.append([arm.name, *cells, "–" if difference is None else str(difference)])
    return [measure, *names, against], body


def _measure(arms: Sequence[Arm]) -> str | None:
    wanted = [MEAN, f"{HELD_OUT}, whole split", *names_of(arms)]
    runs = [run for arm in arms for run in arm.runs.values()]
    return next((name for name in wanted if all(name in run for run in runs)), None)
