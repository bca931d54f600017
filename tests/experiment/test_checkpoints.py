import jax
import jax.numpy as jnp
import numpy as np
import pytest

from prune_jax.experiment.storage import checkpoints, folder
from prune_jax.experiment.storage.stages import CheckpointError


@pytest.fixture
def store(tmp_path):
    return folder.open_workdir(tmp_path / "w", "test")


def tree(scale=1.0):
    return {"params": {"layers": {0: {"kernel": scale * jnp.arange(6.0).reshape(2, 3)}}}, "batch_stats": {}}


def kernel(state):
    return np.asarray(state["params"]["layers"][0]["kernel"])


def steps(store):
    return sorted(path.name for path in (store.root / "partial" / "c").iterdir())


@pytest.mark.parametrize("keep", [1, 2])
def test_the_newest_states_are_kept_with_what_is_said_of_them(store, keep):
    assert checkpoints.read_partial(store, "c") is None
    with checkpoints.open_partial(store, "c", keep) as kept:
        assert checkpoints.newest(kept) is None
        for step in (3, 7, 12):
            checkpoints.save(kept, step, tree(step), {"members": ["a"], "loss": 0.1, "none": None})
    assert steps(store) == ["12", "7"][:keep]
    said = checkpoints.read_partial(store, "c")
    assert (said["members"], said["loss"], said["none"]) == (["a"], 0.1, None)
    with checkpoints.open_partial(store, "c", keep) as kept:
        np.testing.assert_array_equal(kernel(checkpoints.load(kept, tree())), kernel(tree(12)))
    checkpoints.drop_partial(store, "c")
    assert checkpoints.read_partial(store, "c") is None


def test_a_state_may_be_donated_while_it_is_written(store):
    train = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf + 1, state), donate_argnums=0)
    state = train(tree())
    with checkpoints.open_partial(store, "c", 5) as kept:
        for step in range(1, 4):
            checkpoints.save(kept, step, state, {})
            state = train(state)
        checkpoints.settle(kept)
        np.testing.assert_array_equal(kernel(checkpoints.load(kept, tree())), kernel(tree()) + 3)


def test_a_kill_while_writing_leaves_the_state_before(store):
    with checkpoints.open_partial(store, "c", 2) as kept:
        checkpoints.save(kept, 3, tree(3), {"epoch": 3})
    left = store.root / "partial" / "c" / "7.orbax-checkpoint-tmp"
    left.mkdir()  # what Orbax renames at the end of writing
    assert checkpoints.read_partial(store, "c")["epoch"] == 3
    with checkpoints.open_partial(store, "c", 2) as kept:
        checkpoints.save(kept, 7, tree(7), {"epoch": 7})
    assert steps(store) == ["3", "7"]


def test_a_damaged_state_is_named_and_the_one_before_serves_once_it_is_removed(store):
    with checkpoints.open_partial(store, "c", 2) as kept:
        checkpoints.save(kept, 3, tree(3), {"epoch": 3})
        checkpoints.save(kept, 7, tree(7), {"epoch": 7})
    newest = store.root / "partial" / "c" / "7"
    for path in newest.rglob("d/*"):
        path.write_bytes(path.read_bytes()[:5])
    with (
        checkpoints.open_partial(store, "c", 2) as kept,
        pytest.raises(
            CheckpointError, match=rf"checkpoint .* can't be read .* remove {newest} and run again"
        ),
    ):
        checkpoints.load(kept, tree())
    for path in sorted(newest.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    newest.rmdir()
    with checkpoints.open_partial(store, "c", 2) as kept:
        np.testing.assert_array_equal(kernel(checkpoints.load(kept, tree())), kernel(tree(3)))


def test_what_can_not_be_written_is_told(store):
    with checkpoints.open_partial(store, "c", 2) as kept:
        checkpoints.save(kept, 3, tree(3), {})
        with pytest.raises(
            CheckpointError, match=r"partial/c/3 can't be written .* what was finished is kept"
        ):
            checkpoints.save(kept, 3, tree(3), {})
