"""Launch an experiment: python run.py --config=configs/NAME.py [--config.key=value ...] [--workdir=DIR]."""

import importlib.util
import shlex
import sys
from pathlib import Path
from types import ModuleType

from absl import app, flags, logging
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="File with get_config() and, if it sweeps, sweep()."
)
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of stages, records and report; default runs/EXPERIMENT."
)
DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the resolved stages, their cost and the number of runs.")


def config_module() -> ModuleType:
    """The config file as a module, for its optional ``sweep`` and ``quick``."""
    path = config_flags.get_config_filename(flags.FLAGS["config"]).split(":")[0]
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(argv: list[str]) -> None:
    """Resolve the flags and launch; a known failure ends in one clear line and exit code 1."""
    from prune_jax import report
    from prune_jax.experiment import failures, launch, plan

    with failures.one_line():
        failures.refuse_extra_arguments(argv[1:])
        config, module = CONFIG.value, config_module()
        if config.quick:
            given = config_flags.get_override_values(flags.FLAGS["config"])
            config = plan.override(config, {k: v for k, v in module.quick(config).items() if k not in given})
        sweep = getattr(module, "sweep", None)
        if DRY_RUN.value:
            launch.dry_run(config, sweep)
            return
        workdir = Path(WORKDIR.value or Path("runs") / (config.experiment + "_quick" * config.quick))
        report.check_sections(config.report.sections)
        print(f"report: {launch.launch(config, sweep, workdir, shlex.join(sys.argv), report.write)}")


if __name__ == "__main__":
    logging.set_verbosity(logging.ERROR)
    flags.mark_flag_as_required("config")
    app.run(main)
