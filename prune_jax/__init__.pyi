"""The public names for type checkers and editors; at run time each loads on first use."""

import prune_jax.pruning.mask_rules.table
import prune_jax.pruning.regularizers.table
from prune_jax.fairness import RunRecord as RunRecord
from prune_jax.fairness import compare as compare
from prune_jax.fairness import cross_validate as cross_validate
from prune_jax.fairness import strictest_setup as strictest_setup
from prune_jax.fairness import validate as validate
from prune_jax.pruning import allocation as allocation
from prune_jax.pruning.cost import Cost as Cost
from prune_jax.pruning.cost import count as count
from prune_jax.pruning.coupling import Group as Group
from prune_jax.pruning.coupling import Slice as Slice
from prune_jax.pruning.coupling import find_groups as find_groups
from prune_jax.pruning.criteria import table
from prune_jax.pruning.criteria.table import Criterion as Criterion
from prune_jax.pruning.drawing.draw import draw as draw
from prune_jax.pruning.evidence import Evidence as Evidence
from prune_jax.pruning.latency import Latency as Latency
from prune_jax.pruning.latency import latency as latency
from prune_jax.pruning.masks import apply_mask as apply_mask
from prune_jax.pruning.masks import expand as expand
from prune_jax.pruning.masks import hold as hold
from prune_jax.pruning.module.prune import prune as prune
from prune_jax.pruning.module.pruned import Pruned as Pruned
from prune_jax.pruning.recalibration import recalibrate as recalibrate
from prune_jax.pruning.recovery import orthp as orthp
from prune_jax.pruning.shipping.export import export as export
from prune_jax.pruning.shipping.loading import load as load
from prune_jax.pruning.shipping.saving import save as save
from prune_jax.pruning.surgery import shrink as shrink
from prune_jax.pruning.surgery import slim as slim
from prune_jax.schedules import LRSchedule as LRSchedule
from prune_jax.schedules import cosine as cosine
from prune_jax.schedules import halving as halving
from prune_jax.trainability.accuracy import compare_trainability as compare_trainability
from prune_jax.trainability.accuracy import epochs_to as epochs_to
from prune_jax.trainability.accuracy import equivalent_epochs as equivalent_epochs
from prune_jax.trainability.accuracy import trainability_accuracy as trainability_accuracy
from prune_jax.trainability.isometry import isometry_gap as isometry_gap
from prune_jax.trainability.isometry import isometry_gaps as isometry_gaps
from prune_jax.trainability.jacobian import jacobian_singular_values as jacobian_singular_values
from prune_jax.trainability.jacobian import mean_jsv as mean_jsv
from prune_jax.trainability.spectra import Spectrum as Spectrum
from prune_jax.trainability.spectra import spectrum as spectrum

criteria = table
mask_rules = prune_jax.pruning.mask_rules.table
regularizers = prune_jax.pruning.regularizers.table
__version__: str
