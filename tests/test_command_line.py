"""python -m prune_jax: the commands are there. That those for laptops need no JAX is in test_public_surface.py."""

import pytest

from prune_jax import __main__ as command_line


def test_an_unknown_command_lists_the_known_ones(capsys):
    with pytest.raises(SystemExit) as left:
        command_line.main(["cots"])
    assert left.value.code == 2
    complaint = capsys.readouterr().err
    assert all(name in complaint for name in ("cots", *command_line.COMMANDS))


@pytest.mark.parametrize("name", sorted(command_line.COMMANDS))
def test_every_command_helps(name, capsys):
    with pytest.raises(SystemExit) as left:
        command_line.main([name, "--help"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: python -m prune_jax {name}")
