"""Launch an experiment: python run.py --config=configs/NAME.py [--config.key=value ...] [--workdir=DIR]."""

import sys

from prune_jax import run_command

if __name__ == "__main__":
    run_command.start(sys.argv[:1], sys.argv[1:])
