"""Where in a chain a stage may stand."""

from collections.abc import Sequence

HEADS = ("pretrain", "initialise", "scratch")


def refuse_misplaced(kinds: Sequence[str]) -> None:
    """Raise ValueError, naming the place, for a chain whose stages have nothing to act on or don't end with training.

    >>> refuse_misplaced(["pretrain", "sparsify", "rewind", "retrain"])
    """
    if kinds[0] not in HEADS:
        raise ValueError(
            f"chain[0].stage is {kinds[0]!r}, which needs a network to act on: begin with 'pretrain' "
            "(base.checkpoint names a file instead of training), 'initialise' or 'scratch'"
        )
    for place, kind in enumerate(kinds[1:], 1):
        if kind in HEADS:
            raise ValueError(f"chain[{place}].stage is {kind!r}; a chain begins with it, once")
        if kind == "rewind" and "sparsify" not in kinds[:place] and kinds[0] != "scratch":
            raise ValueError(
                f"chain[{place}].stage is 'rewind', and nothing is pruned before it: put 'sparsify' before it"
            )
        if kind == "regularise" and "sparsify" not in kinds[place:] and kinds[0] != "scratch":
            raise ValueError(
                f"chain[{place}].stage is 'regularise', and nothing is cut after it: put 'sparsify' behind it"
            )
    for kind in ("regularise", "sparsify", "rewind"):
        if kinds[0] == "scratch" and kind in kinds:
            raise ValueError(
                f"chain[{kinds.index(kind)}].stage is {kind!r} after 'scratch', whose network is small from the "
                "start; begin with 'pretrain'"
            )
    if kinds[-1] in ("sparsify", "rewind", "initialise"):
        raise ValueError(
            f"chain[{len(kinds) - 1}].stage is {kinds[-1]!r}; a chain ends with training: add 'retrain'"
        )
