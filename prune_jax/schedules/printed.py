"""Schedules as papers print them to the notation with epochs: '0.1, /10 at 30,60' is '0:0.1,30:0.01,60:0.001'."""

import re
from collections.abc import Callable, Sequence
from decimal import Decimal

_LR = r"\d*\.?\d+(?:e-?\d+)?"
_LIST = r"\[?\s*\d+(?:\s*(?:,|/|;|and|\s)\s*\d+)*\s*\]?"
_BY = (
    rf"(?:(?:decayed|divided|dropped|reduced|multiplied)\s*)?(?:by\s*)?(/|÷|x|\*|×|divided by|by)\s*({_LR})x?"
)
_EPOCHS = r"(?:epochs?\s*)?"
_END = r"\s*(?:epochs?)?"


def canonical(text: str, epochs: int) -> str:
    """A schedule in the notation that ``LRSchedule.parse`` reads.

    Args:
        text: in that notation, which is returned as it is, or as papers print it: a constant ('0.01'), decays at epochs
            ('0.1, /10 at 30,60') or every so many ('0.1, x0.1 every 30'), 'step(0.1, 30, 0.1)', 'cosine 0.1 to 0',
            'linear 0.1 to 0'. Text of another kind is returned as it is, for ``parse`` to refuse.
        epochs: how long the stage lasts.

    Returns:
        The text to parse.

    Raises:
        ValueError: where a number is left open, such as the LR of 'cosine'. It gives the form to write instead.

    Example:
        >>> canonical("0.1, /10 at 30,60", 90)
        '0:0.1,30:0.01,60:0.001'
    """
    plain = re.sub(r"\s+", " ", text.strip().lower().removeprefix("lr ")) if isinstance(text, str) else ""
    if not plain or re.match(r"\d+\s*:", plain):
        return text
    for pattern, read in _FORMS:
        found = re.fullmatch(pattern, plain)
        if found:
            return read(text, [group for group in found.groups() if group is not None], epochs)
    return text


def _constant(_: str, groups: Sequence[str], __: int) -> str:
    return f"0:{groups[0]}"


def _decays(_: str, groups: Sequence[str], __: int) -> str:
    first, sign, factor, at = groups
    return _steps(first, _factor(sign, factor), [int(epoch) for epoch in re.findall(r"\d+", at)])


def _every(_: str, groups: Sequence[str], epochs: int) -> str:
    first, sign, factor, period = groups
    return _steps(first, _factor(sign, factor), _multiples(period, epochs))


def _multistep(_: str, groups: Sequence[str], __: int) -> str:
    first, at, factor = groups
    return _steps(first, Decimal(factor), [int(epoch) for epoch in re.findall(r"\d+", at)])


def _step(text: str, groups: Sequence[str], epochs: int) -> str:
    first, period, *factor = groups
    starts = _multiples(period, epochs)
    if not factor:
        meant = _steps(first, Decimal("0.1"), starts)
        raise _open(
            text,
            "by how much the LR falls",
            f"{meant}' where it is divided by 10, or 'step({first}, {period}, 0.1)",
        )
    return _steps(first, Decimal(factor[0]), starts)


def _values(_: str, groups: Sequence[str], __: int) -> str:
    rates, starts = (re.findall(pattern, group) for pattern, group in zip((_LR, r"\d+"), groups, strict=True))
    if len(rates) != len(starts) + 1:
        raise ValueError(
            f"schedule {groups[0]!r} at {groups[1]!r} has {len(rates)} LRs and {len(starts)} epochs; one LR more than "
            "epochs is needed: '0.1/0.01/0.001 at 30/60'"
        )
    return ",".join(f"{start}:{rate}" for start, rate in zip(["0", *starts], rates, strict=True))


def _curve(_: str, groups: Sequence[str], __: int) -> str:
    kind = next(group for group in groups if group in ("cosine", "linear"))
    first, last = (group for group in groups if group != kind)
    return f"0:{kind}({first},{last})"


def _open_curve(text: str, groups: Sequence[str], _: int) -> str:
    kind = next(group for group in groups if group in ("cosine", "linear"))
    first = next((group for group in groups if group != kind), "FIRST")
    missing = "its last LR" if first != "FIRST" else "its LRs"
    raise _open(
        text, missing, f"0:{kind}({first},LAST)', such as '0:{kind}({first.replace('FIRST', '0.1')},0)"
    )


def _warm_up(text: str, groups: Sequence[str], _: int) -> str:
    length, rest = groups[0], groups[-1]
    kind = "cosine" if "cosine" in rest else "linear" if "linear" in rest else ""
    rates = re.findall(_LR, rest)
    high, last = rates[0] if rates else "LR", rates[1] if len(rates) > 1 else "LAST"
    after = f"{length}:{kind}({high},{last})" if kind else f"{length}:{high}"
    raise _open(
        text,
        "where the warm-up begins",
        f"0:linear(FIRST,{high}),{after}', such as '0:linear(0.001,0.1),5:cosine(0.1,0)",
    )


_FORMS: tuple[tuple[str, Callable[[str, Sequence[str], int], str]], ...] = (
    (rf"(?:constant|fixed|const)?[ :,(]*({_LR})[ )]*(?:constant|fixed)?", _constant),
    (rf"({_LR})[,;: ]+{_BY}\s*(?:at|@)\s*{_EPOCHS}({_LIST}){_END}", _decays),
    (rf"({_LR})[,;: ]+{_BY}\s*every\s*(\d+){_END}", _every),
    (rf"step(?:lr)?[ (]+({_LR})\s*,\s*(\d+)(?:\s*,\s*({_LR}))?\s*\)?", _step),
    (rf"((?:{_LR}\s*[,/]\s*)+{_LR})\s*(?:at|@)\s*{_EPOCHS}({_LIST}){_END}", _values),
    (rf"multi-?step(?:lr)?[ (]+({_LR})\s*,\s*({_LIST})\s*,\s*({_LR})\s*\)?", _multistep),
    (rf"(cosine|linear)[ ,:(]+(?:from )?({_LR})\s*(?:to|->|→|,)\s*({_LR})\s*\)?", _curve),
    (rf"({_LR})\s*(?:to|->|→)\s*({_LR})[ ,]*(cosine|linear)", _curve),
    (rf"({_LR})[ ,]*(cosine|linear)(?: annealing| decay)?\s*(?:to|->|→)\s*({_LR})", _curve),
    (rf"(cosine|linear)(?: annealing| decay| schedule)?[ ,:(]*({_LR})?\s*\)?", _open_curve),
    (rf"({_LR})[ ,]+(cosine|linear)(?: annealing| decay| schedule)?", _open_curve),
    (r"(\d+) epochs? (?:of )?(?:linear )?warm-?up[ ,;+]*(.*)", _warm_up),
    (r"(?:linear )?warm-?up[ :(]+(\d+)\s*(?:epochs?)?[ ),;+]*(.*)", _warm_up),
)  # fmt: skip


def _steps(first: str, factor: Decimal, starts: Sequence[int]) -> str:
    rate, pieces = Decimal(first), [f"0:{first}"]
    for start in starts:
        rate *= factor
        pieces.append(f"{start}:{float(rate):g}")
    return ",".join(pieces)


def _multiples(period: str, epochs: int) -> list[int]:
    return list(range(int(period), epochs, int(period))) if int(period) else []


def _factor(sign: str, factor: str) -> Decimal:
    """'/10' and 'by 10' divide, 'x0.1' and 'by 0.1' multiply."""
    divides = sign in ("/", "÷", "divided by") or Decimal(factor) > 1
    return 1 / Decimal(factor) if divides else Decimal(factor)


def _open(text: str, what: str, form: str) -> ValueError:
    return ValueError(f"schedule {text!r} leaves open {what}; write '{form}'")
