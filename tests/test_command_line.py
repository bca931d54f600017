"""python -m prune_jax: the commands are there, and those for laptops need no JAX."""

import subprocess
import sys

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


def test_compare_and_report_run_without_jax():
    script = (
        "import sys; sys.modules.update(dict.fromkeys(('jax', 'flax', 'optax', 'orbax', 'ml_collections')));"
        "from prune_jax.__main__ import main;"
        "assert main(['compare', 'paper:table1']) == 0; sys.exit(main(['report', 'nowhere', '--table=4']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "GReg-1 ICLR'21 2.31x" in done.stdout
    assert "report: no result folder at nowhere" in done.stderr
