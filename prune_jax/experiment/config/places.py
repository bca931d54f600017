"""Where in a chain a stage may stand."""

from collections.abc import Sequence

HEADS = ("pretrain", "initialise", "scratch", "sparse_scratch")
SMALL = ("scratch", "sparse_scratch")  # heads whose network has been pruned before it trains


def refuse_misplaced(kinds: Sequence[str]) -> None:
    """Raise ValueError, naming the place, for a chain whose stages have nothing to act on or don't end with training.

    >>> refuse_misplaced(["pretrain", "sparsify", "rewind", "retrain"])
    """
    if kinds[0] not in HEADS:
        raise ValueError(
            f"chain[0].stage is {kinds[0]!r}, which needs a network to act on: begin with 'pretrain' "
            "(base.checkpoint names a file instead of training), 'initialise', 'scratch' or 'sparse_scratch'"
        )
    for place, kind in enumerate(kinds[1:], 1):
        if kind in HEADS:
            raise ValueError(f"chain[{place}].stage is {kind!r}; a chain begins with it, once")
        if kind == "gradual" and ({"sparsify", "gradual"} & set(kinds[:place])):
            raise ValueError(
                f"chain[{place}].stage is 'gradual' of a network that is pruned already: put it before the first cut"
            )
        if kind == "rewind" and not {"sparsify", "gradual"} & set(kinds[:place]) and kinds[0] not in SMALL:
            raise ValueError(
                f"chain[{place}].stage is 'rewind', and nothing is pruned before it: put 'sparsify' before it"
            )
        if kind == "regularise" and "sparsify" not in kinds[place:] and kinds[0] not in SMALL:
            raise ValueError(
                f"chain[{place}].stage is 'regularise', and nothing is cut after it: put 'sparsify' behind it"
            )
    for kind in ("regularise", "sparsify", "gradual", "rewind"):
        if kinds[0] in SMALL and kind in kinds:
            raise ValueError(
                f"chain[{kinds.index(kind)}].stage is {kind!r} after {kinds[0]!r}, whose network is "
                f"{'small' if kinds[0] == 'scratch' else 'sparse'} from the start; begin with 'pretrain'"
            )
    if kinds[-1] in ("sparsify", "rewind", "initialise"):
        raise ValueError(
            f"chain[{len(kinds) - 1}].stage is {kinds[-1]!r}; a chain ends with training: add 'retrain'"
        )
