"""What benchmarks.jacobian says of its measurements; no time is measured here."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import jacobian, jacobian_exact, jacobian_matrix_free
from prune_jax import models

CALLS = """
import json
import numpy as np
from benchmarks import memory

held = []

def call():
    for _ in range(2):  # one after the other: 40 MB at once
        held.extend(np.ones(2**13) for _ in range(640))  # 64 KiB each, which malloc keeps when they are freed
        held.clear()

call()
print(json.dumps([memory.median_rise_mb(call), memory.rise_mb(call), memory.rise_mb(lambda: None)]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_call_s_memory_is_what_it_takes_at_once_and_not_what_it_keeps_free():
    child = [sys.executable, "-c", CALLS]  # alone in its process, as a case of the benchmark is
    found = json.loads(subprocess.run(child, capture_output=True, text=True, check=True).stdout)
    assert found[0] == pytest.approx(40, abs=4)
    assert found[1] == pytest.approx(40, abs=4)
    assert found[2] < 4


def test_a_gpu_counts_as_measured_where_a_measurement_ran_on_it():
    on_cpu = {("jacobian_exact", "ours", "resnet8", "10", "4"): {"backend": "cpu", "device": "cpu"}}
    peer = {("jacobian_exact", "loop", "resnet8", "10", "4"): {"seconds": 1.0}}
    on_gpu = {
        ("jacobian_exact", "ours", "resnet50", "1000", "8"): {"backend": "gpu", "device": "NVIDIA H100"}
    }
    assert jacobian.accelerated(on_cpu | peer) == "not measured"
    said = jacobian.accelerated(on_cpu | peer | on_gpu)
    assert said == "measured: jacobian_exact ours resnet50 1000 8 on NVIDIA H100"
    assert jacobian.default_backend() == jax.default_backend()


def test_what_is_compared_with_pytorch_is_held_to_the_cpu():
    with_one, without = (jacobian_exact.cases(False, backend) for backend in ("gpu", "cpu"))
    assert {case[1] for case in set(with_one) - set(without)} == {"resnet50"}
    peers = {case[1:] for case in with_one if case[0] != "ours"}
    assert not any(jacobian_exact.on_accelerator("ours", *case) for case in peers)
    assert all(jacobian_exact.on_accelerator(*case) for case in set(with_one) - set(without))


def test_memory_is_compared_by_one_yardstick_at_a_time():
    ours = {"examples_per_s": 8.0, "seconds": 1.0, "floor_s": 2.0, "allotted_mb": 1.0}
    ours |= {"resident_mb": 30.0, "first_call_resident_mb": 90.0}
    peer = {"examples_per_s": 4.0, "seconds": 2.0, "resident_mb": 60.0, "first_call_resident_mb": 45.0}
    case = ("resnet56", "10", "8")
    found = jacobian_exact.ratios({("ours", *case): ours, ("torch_func", *case): peer})
    memories = {what: value for what, value in found.items() if "memory" in what}
    assert memories == {
        "resnet56 K=10 batch 8: ours / torch_func, resident memory of a call": 0.5,
        "resnet56 K=10 batch 8: ours / torch_func, resident memory of the first call, compilation too": 2.0,
    }


@pytest.mark.parametrize(
    ("stated", "fair", "said"), [(0.01, 9.5, "met"), (0.01, 5.3, "NOT met"), (0.03, 9.5, "NOT met")]
)
def test_the_verdict_holds_the_estimate_against_both_rivals(stated, fair, said):
    times = {
        "K pull-backs / (planning + following)": 10.0,
        "exact from features / (planning + following)": fair,
        "stated error / truth": stated,
        "value / truth": 1.001,
    }
    curve = {"outputs": 100, "budgets": [{"share": 12, "auto": {"error": 0.015}}]}
    slow = "met" if stated <= 0.02 else "NOT met"
    verdict = jacobian_matrix_free.verdict(times, curve, goal=8)
    assert (
        f"1/10 of the time of K pull-backs of every example (goal 2 % at 1/8): {slow}; at 1/{fair} of"
        in verdict
    )
    assert verdict.endswith(f"exact spectra from the features: {said}")


def test_the_floor_is_a_forward_and_a_backward_pass_of_one_output():
    def apply(kernel, x):
        return jnp.square(x) @ kernel

    kernel, x = jnp.asarray([[1.0, 2.0], [3.0, 4.0]]), jnp.asarray([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    forward, backward = jacobian_exact.floor_passes(models.Network(kernel, apply, None), x)
    np.testing.assert_array_equal(forward()[0], apply(kernel, x))
    of_the_first_output = 2 * np.asarray(x) * np.asarray(kernel)[:, 0]
    np.testing.assert_array_equal(backward()[0], of_the_first_output)


def test_clocked_functions_take_turns():
    called = []
    found = jacobian_exact.clock(lambda: called.append("a"), lambda: called.append("b"), least=3, seconds=0.0)
    assert "".join(called) == "ab" * 4  # the first call of each compiles
    assert len(found) == 2
    assert all(len(pair) == 2 for pair in found)
