import pytest

from prune_jax.experiment.cluster import local_gpus


@pytest.mark.parametrize(
    ("before", "gpus", "seen"),
    [
        (None, 0, [None, None, None]),  # as the launcher: all there are
        ("2,5", 0, ["2,5", "2,5", "2,5"]),
        ("2,5", 1, ["2", "5", "2"]),
        ("0,1,2,3", 2, ["0,1", "2,3", "0,1"]),
        ("0,1,2", 2, ["0,1", "2,0", "1,2"]),
        ("", 1, ["", "", ""]),  # none is meant
    ],
)
def test_jobs_take_turns_on_the_gpus_that_their_launcher_sees(before, gpus, seen):
    here = {} if before is None else {"CUDA_VISIBLE_DEVICES": before}
    assert [local_gpus.environment(here, gpus, i) for i in (1, 2, 3)] == [
        {"CUDA_VISIBLE_DEVICES": names} for names in seen
    ]


def test_more_gpus_than_there_are_are_refused():
    with pytest.raises(ValueError, match=r"cluster.gpus is 3; --launcher=local finds 2 on this machine"):
        local_gpus.environment({"CUDA_VISIBLE_DEVICES": "2,5"}, 3, 1)
