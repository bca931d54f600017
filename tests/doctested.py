"""Which modules have all their docstrings' examples run, by the test of their room."""

PRUNING = (
    "compensation",
    "criteria.criterion",
    "evidence",
    "gathering.synaptic_flow",
    "granularity",
    "inputs.layout",
    "isomorphism",
    "iterated",
    "lamp",
    "layouts.blocks",
    "layouts.erk",
    "layouts.kernel_axes",
    "layouts.n_of_m",
    "layouts.naming",
    "layouts.unstructured",
    *(
        f"mask_rules.{name}"
        for name in ("exchange", "magnitude", "plans", "step", "straight", "table", "units", "costs")
    ),
    "module.prune",
    *(
        f"regularizers.{name}"
        for name in ("gram", "group_norm", "growth", "orthogonality", "penalty", "table")
    ),
    "rounds",
    "slices",
)
# Of trainability, whose modules have examples each: those that are run in the slow part.
SLOW_OF_TRAINABILITY = ("isometry", "learning", "mean_estimate", "parts", "quadrature")
OTHERS = (
    "experiment.config.arguments",
    "data.idx",
    "data.subset",
    "fairness.cells",
    "fairness.matched_macs",
    "fairness.metrics",
    "fairness.pruningbench",
    "fairness.table_records",
    "fairness.tidy",
    "fairness.validation",
    "models.conv_net",
    "report.formats",
    "schedules.printed",
)


def is_run_with_its_module(module: str) -> bool:
    """Whether the fast part runs the examples of the module of this full name."""
    room, _, name = module.removeprefix("prune_jax.").partition(".")
    if room == "trainability":
        return name not in SLOW_OF_TRAINABILITY
    return name in PRUNING if room == "pruning" else f"{room}.{name}" in OTHERS
