import io

import rich.console

from prune_jax.experiment.progress import Progress


def console(terminal):
    return rich.console.Console(file=io.StringIO(), force_terminal=terminal, width=200, _environ={})


def test_plain_lines_where_there_is_no_terminal():
    out = console(False)
    with Progress(2, console=out, plain_seconds=1e9) as progress:
        progress.run(1, "L1 0.9")
        progress.begin("retrain", 3, 0)
        for epoch in (1, 2, 3):
            progress.epoch(epoch, 50.0 + epoch)
        progress.line("done [not markup]")
    lines = out.file.getvalue().splitlines()
    assert lines == ["run 1/2 L1 0.9 | retrain epoch 3/3 accuracy 53.00 %", "done [not markup]"]


def test_every_epoch_is_told_when_epochs_are_slow():
    out = console(False)
    with Progress(1, console=out, plain_seconds=0.0) as progress:
        progress.run(1, "x")
        progress.begin("pretrain", 2, 1)
        progress.epoch(2, 12.5)
    assert out.file.getvalue().splitlines() == ["run 1/1 x | pretrain epoch 2/2 accuracy 12.50 %"]


def test_a_live_line_on_a_terminal_names_stage_run_epoch_accuracy_and_time_left():
    out = console(True)
    with Progress(4, console=out) as progress:
        progress.run(3, "L1 0.9")
        progress.begin("retrain", 10, 4)
        progress.epoch(5, 91.5)
    text = out.file.getvalue()
    for part in ("run 3/4 L1 0.9 | retrain", "epoch 5/10", "91.50 %", "left"):
        assert part in text


def test_time_left_of_the_launch_counts_runs_from_the_second_on():
    out = console(False)
    with Progress(3, console=out, plain_seconds=0.0) as progress:
        for run in (1, 2):
            progress.run(run, "x")
            progress.begin("retrain", 1, 0)
            progress.epoch(1, 50.0)
            progress.over()
    first, second = out.file.getvalue().splitlines()
    assert "left" not in first
    assert second.endswith("s left")
