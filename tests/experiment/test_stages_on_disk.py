import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.experiment.storage import folder
from prune_jax.experiment.storage import stages as disk


@pytest.fixture
def store(tmp_path):
    return folder.open_workdir(tmp_path / "w", "test")


def tree(scale=1.0):
    return {"params": {"layers": {0: {"kernel": scale * jnp.arange(6.0).reshape(2, 3)}}}, "batch_stats": {}}


LIKE = jax.eval_shape(tree)


def test_a_finished_stage_comes_back_bit_for_bit(store):
    assert disk.read_stage(store, "a") is None
    disk.save_stage(store, "a", tree(1 / 3), {"kind": "pretrain"})
    assert disk.read_stage(store, "a")["kind"] == "pretrain"
    back = disk.load_variables(store, "a", LIKE)
    assert jax.tree.structure(back) == jax.tree.structure(tree())
    np.testing.assert_array_equal(
        back["params"]["layers"][0]["kernel"], tree(1 / 3)["params"]["layers"][0]["kernel"]
    )


def test_a_stage_without_its_last_file_is_not_finished_and_can_be_saved_again(store):
    disk.save_stage(store, "a", tree(1.0), {})
    (store.root / "stages" / "a" / "stage.json").unlink()
    assert disk.read_stage(store, "a") is None
    with pytest.raises(disk.CheckpointError, match="stage a is not finished"):
        disk.load_variables(store, "a", LIKE)
    disk.save_stage(store, "a", tree(2.0), {})
    assert disk.load_variables(store, "a", LIKE)["params"]["layers"][0]["kernel"][0, 1] == 2.0


def test_a_damaged_checkpoint_is_named_with_the_way_out(store):
    disk.save_stage(store, "a", tree(), {})
    for path in (store.root / "stages" / "a" / "checkpoint").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(
        disk.CheckpointError, match=r"stages/a/checkpoint can't be read .*; remove .*stages/a and run"
    ):
        disk.load_variables(store, "a", LIKE)


def test_other_numbers_than_were_saved_are_noticed(store):
    disk.save_stage(store, "a", tree(), {})
    disk.save_stage(store, "b", tree(2.0), {})
    about = json.loads((store.root / "stages" / "b" / "stage.json").read_text())
    (store.root / "stages" / "a" / "stage.json").write_text(json.dumps(about))
    with pytest.raises(disk.CheckpointError, match="holds other numbers than were saved"):
        disk.load_variables(store, "a", LIKE)


def test_a_half_written_json_is_named(store):
    disk.save_stage(store, "a", tree(), {})
    (store.root / "stages" / "a" / "stage.json").write_text('{"kind": ')
    with pytest.raises(disk.CheckpointError, match=r"stage.json is no JSON .*; remove .*stages/a"):
        disk.read_stage(store, "a")


def test_a_workdir_belongs_to_one_experiment(tmp_path):
    folder.open_workdir(tmp_path / "w", "first")
    folder.open_workdir(tmp_path / "w", "first")
    with pytest.raises(ValueError, match=r"holds experiment 'first', not 'second': choose another folder"):
        folder.open_workdir(tmp_path / "w", "second")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("mine")
    with pytest.raises(ValueError, match="is not empty and holds no experiment"):
        folder.open_workdir(tmp_path / "other", "first")


def test_a_workdir_that_lost_its_claim_is_claimed_anew_and_no_other_folder_is(tmp_path):
    root = tmp_path / "w"
    folder.open_workdir(root, "one")
    for name in ("stages", "records", "locks", ".snapshot"):
        (root / name).mkdir(exist_ok=True)
    (root / "slurm-7.out").touch()
    (root / "experiment.json").unlink()
    folder.open_workdir(root, "one")
    old = (root / "experiment.json").stat().st_mtime_ns
    os.utime(root / "experiment.json", (1, 1))
    folder.open_workdir(root, "one")
    assert (root / "experiment.json").stat().st_mtime_ns >= old  # a purge goes by age
    (root / "experiment.json").write_text("[]")
    with pytest.raises(ValueError, match=r"experiment.json says nothing of an experiment"):
        folder.open_workdir(root, "one")
    (root / "experiment.json").unlink()
    (root / "thesis.tex").touch()
    with pytest.raises(ValueError, match="is not empty and holds no experiment"):
        folder.open_workdir(root, "one")


def test_a_workdir_that_cannot_be_written_is_told_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        ValueError, match=r"file/w can't be written \(Not a directory\): choose another folder"
    ):
        folder.open_workdir(tmp_path / "file" / "w", "first")


def test_what_is_published_again_never_lacks_its_weights(store):
    disk.save_stage(store, "a", tree(1.0), {"measure": 0})
    before = {p: p.stat().st_mtime_ns for p in (store.root / "stages" / "a" / "checkpoint").rglob("*")}
    disk.save_stage(store, "a", tree(1.0), {"measure": 1})
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert disk.read_stage(store, "a")["measure"] == 1
    disk.save_stage(store, "a", tree(3.0), {"measure": 2})
    assert {p: p.stat().st_mtime_ns for p in before} == before  # for who is reading it just now
    assert disk.load_variables(store, "a", LIKE)["params"]["layers"][0]["kernel"][0, 1] == 3.0


def test_a_full_disk_is_noticed_before_anything_is_written(store, monkeypatch):
    usage = shutil.disk_usage(store.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**19))
    with pytest.raises(disk.CheckpointError, match=r"0.5 MiB are free, 1.0 needed; free disk space"):
        disk.save_stage(store, "a", tree(), {})
    assert disk.read_stage(store, "a") is None
    assert not (store.root / "stages").exists()
