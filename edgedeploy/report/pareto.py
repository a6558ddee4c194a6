"""Which points of a trade-off no other point beats in both respects."""

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Indices of the points (cost, quality) that are not dominated, by rising cost.

    A point is dominated where another has a cost as low and a quality as high, one of them better.
    Equal points do not dominate each other. Values are finite; O(n log n).
    """
    order = sorted(range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or points[i][1] > points[front[-1]][1] or points[i] == points[front[-1]]:
            front.append(i)
    return front
