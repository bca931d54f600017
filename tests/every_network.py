"""The catalog as parameters of a test; what only has more blocks of a kind is looked at in the slow part."""

import pytest

from prune_jax import models

# Their code is that of resnet8 and resnet18, with more blocks.
DEEPER = {"resnet14", "resnet20", "resnet34", "resnet56", "resnet110"}
NAMES = [pytest.param(name, marks=[pytest.mark.slow] * (name in DEEPER)) for name in models.names()]
EVERY = pytest.mark.parametrize("name", NAMES)
