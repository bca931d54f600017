"""Letters for groups that can't be told apart: the compact letter display of all pairwise tests."""

from collections.abc import Iterable
from string import ascii_lowercase

Pairs = Iterable[tuple[int, int]]


def indistinct_sets(count: int, apart: Pairs) -> tuple[tuple[int, ...], ...]:
    """All largest sets in which no two members are told apart.

    No member can be added to such a set. Two members are in a set together exactly where they are not told apart.
    The sets may overlap, as 'not told apart' says nothing of a third member. They are the maximal cliques of the
    graph whose edges are the pairs that are not told apart, so they don't depend on any order.

    Args:
        count: how many members there are, numbered from 0.
        apart: pairs of numbers that are told apart.

    Returns:
        The sets, each in ascending order, sorted. None for no members.

    Raises:
        ValueError: a pair names a member twice, or one that is not there.

    Example:
        >>> indistinct_sets(3, [(0, 2)])  # 1 can be told from neither
        ((0, 1), (1, 2))

    Source: H.-P. Piepho, J. Comput. Graph. Statist. 13 (2004), 456-466. There each
    told pair splits the sets that hold both, and a set inside a larger one is absorbed. As cliques: Gramm et al.,
    Comput. Stat. Data Anal. 52 (2007).
    """
    sets = {frozenset(range(count))} if count else set()
    for pair in apart:
        if len(set(pair)) < 2 or not set(pair) <= set(range(count)):
            raise ValueError(f"{pair} is no pair of two members from 0 to {count - 1}")
        sets = _absorbed({part for whole in sets for part in _split(whole, pair)})
    return tuple(sorted(tuple(sorted(each)) for each in sets))


def letters(count: int, apart: Pairs) -> tuple[str, ...]:
    """The letters of each member: one for each of its ``indistinct_sets``.

    Two members share a letter exactly where they are not told apart.

    Args:
        count: how many members there are. The first is the best, whose sets get the first letters.
        apart: pairs of numbers that are told apart.

    Returns:
        For each member its letters, such as 'ab'. After 'z' comes 'a2'.

    Raises:
        ValueError: as ``indistinct_sets``.

    Example:
        >>> letters(3, [(0, 2)])
        ('a', 'ab', 'b')
    """
    sets = indistinct_sets(count, apart)
    return tuple(
        "".join(_letter(number) for number, members in enumerate(sets) if member in members)
        for member in range(count)
    )


def _split(whole: frozenset[int], pair: tuple[int, int]) -> list[frozenset[int]]:
    """The set itself, or where it holds both of the pair, the set without one and without the other."""
    return [whole - {member} for member in pair] if whole.issuperset(pair) else [whole]


def _absorbed(sets: set[frozenset[int]]) -> set[frozenset[int]]:
    """Those that lie in no other."""
    return {each for each in sets if not any(each < other for other in sets)}


def _letter(number: int) -> str:
    cycle, place = divmod(number, len(ascii_lowercase))
    return ascii_lowercase[place] + (str(cycle + 1) if cycle else "")
