"""Draw a network's coupled groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from prune_jax.pruning.drawing.rows import rows_of
from prune_jax.pruning.drawing.svg import svg_of
from prune_jax.pruning.jaxpr.groups import Group
from prune_jax.pruning.keep import checked
from prune_jax.pruning.module.pruned import Pruned


@dataclass(frozen=True)
class Drawing:
    """A picture as SVG. A notebook shows it as the result of a cell.

    Attributes:
      svg: the picture's text.
    """

    svg: str

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return (
            f"Drawing({len(self.svg)} characters of SVG; a notebook shows it, save('groups.svg') writes it)"
        )

    def save(self, path: str | Path) -> Path:
        """Write the picture to a file.

        Args:
          path: the file. Its name ends in '.svg'.

        Returns:
          The path.

        Raises:
          ValueError: the name has another ending.
        """
        path = Path(path)
        if path.suffix != ".svg":
            raise ValueError(f"path is {str(path)!r}; a drawing is SVG, so give a name that ends in '.svg'")
        path.write_text(self.svg, encoding="utf-8")
        return path


def draw(
    groups: Sequence[Group] | Pruned, keep: Mapping[str, Any] | None = None, *, title: str = ""
) -> Drawing:
    """Draw which channels of a network live or die together.

    The picture has one row for each kernel, in the order in which the network runs. The left bars are the axes that
    the kernel reads. The right bars are the axes that it makes. One colour stands for one group. Where a group has a
    frozen reason its bars are hatched. The full part of a bar is what stays, the pale part is what goes. A vertical
    line ties layers that make one group together, as a residual connection asks for. Below are all groups with
    their numbers of channels before and after, and with the reason why one is frozen.

    The length of a bar is proportional to the square root of the number of channels. The full part of it is
    proportional to the channels that stay.

    Args:
      groups: what ``find_groups`` returned, or what ``prune`` returned.
      keep: group name -> indices of the channels that stay. None: all stay, or of ``prune``'s result its own keep.
      title: a line above the picture.

    Returns:
      The drawing. A notebook shows it. ``save(path)`` writes it as SVG.

    Raises:
      KeyError: ``keep`` names a group that isn't there.
      ValueError: ``keep`` asks for channels that a group doesn't have, or cuts a frozen group.

    Example:
      >>> import numpy as np
      >>> from prune_jax import find_groups
      >>> params = {"first": np.ones((4, 8)), "second": np.ones((8, 2))}
      >>> groups = find_groups(lambda p, x: x @ p["first"] @ p["second"], params, np.ones((1, 4)))
      >>> picture = draw(groups, {"first": range(6)})
      >>> "8→6" in picture.svg
      True
    """
    if isinstance(groups, Pruned):
        keep = groups.keep if keep is None else keep
        groups = groups.groups
    kept = checked(groups, keep or {})
    after = [len(kept[group.name]) if group.name in kept else group.size for group in groups]
    return Drawing(svg_of(rows_of(groups, kept), groups, after, title))
