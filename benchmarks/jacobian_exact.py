"""Exact spectra: ours, its floor, and PyTorch's ways to the same values; a section of benchmarks.jacobian.

Evaluation mode, float32, random weights and images of seed 0. MLP-7 on 28x28x1, ResNets on 32x32x3.

ours: jacobian_singular_values, weights as arguments. "jacobians_s": K pull-backs of every example in one thread,
linear in K and batch; the values take fewer where a network ends in a linear layer on fewer features than outputs.
In the same process, in turns with it, its floor: one forward pass and K backward passes of one output to the input,
each compiled by itself. (The input gradient less a forward pass is no backward pass: the compiled gradient of a linear
network holds no forward pass, so on MLP-7 the difference is near nothing.)
loop: one backward per class into input and weights, as the field's routine does, then svdvals.
loop_inputs: the same by autograd.grad for the input alone. torch_func: vmap(jacrev), then svdvals.
Memory, of ours and of PyTorch's by the same yardsticks, and which of them a number goes by is in its name:
"resident_mb", how far the process's resident set rises during a call after others, nothing being compiled, and
"first_call_resident_mb", during the first one, compilation and what a library loads then included (see memory.py).
"allotted_mb", of ours alone: what XLA allots, arguments apart. It is no match for a resident set.
ResNet-50 is measured where jax finds an accelerator, all else on the CPU, as PyTorch is.
"""

import statistics
import time

from benchmarks import memory

THREADS = 2
RIVALS = ("loop", "loop_inputs", "torch_func")


def cases(quick, backend):
    """(who, network, outputs, batch) of every measurement; ``backend``: what jax runs on by default."""
    found = [(who, "mlp7_linear", "10", "100") for who in ("ours", *RIVALS)]
    if quick:
        return found + [("ours", "resnet8", k, "4") for k in ("10", "100")]
    found += [("ours", "mlp7_relu", "10", "100")]
    found += [(who, "resnet56", "10", "32") for who in ("ours", *RIVALS)]
    found += [(who, "resnet56", "100", "8") for who in ("ours", "loop", "loop_inputs")]
    found += [("ours", "resnet8", k, "4") for k in ("10", "100", "1000")]
    found += [("ours", "resnet8", "10", batch) for batch in ("8", "16", "32")]
    if backend != "cpu":
        found += [("ours", "resnet50", "1000", batch) for batch in ("1", "8")]
    return found


def on_accelerator(who, network, outputs, batch):
    """Whether a measurement is one of an accelerator, where there is one."""
    del who, outputs, batch
    return network == "resnet50"


def measure(who, network, outputs, batch):
    """One measurement, in a process of its own."""
    outputs, batch = int(outputs), int(batch)
    return ours(network, outputs, batch) if who == "ours" else peer(who, network, outputs, batch)


def ratios(found):
    """The numbers that are quoted, from medians."""
    out = {}
    for (who, network, outputs, batch), result in found.items():
        name = f"{network} K={outputs} batch {batch}"
        mine = found["ours", network, outputs, batch]
        out[f"{name}: {who} examples/s"] = result["examples_per_s"]
        if who == "ours":
            out[f"{name}: ours / floor, time"] = result["seconds"] / result["floor_s"]
        else:
            out[f"{name}: {who} / ours, time"] = result["seconds"] / mine["seconds"]
            for yardstick, said in (
                ("resident_mb", "resident memory of a call"),
                ("first_call_resident_mb", "resident memory of the first call, compilation too"),
            ):
                out[f"{name}: ours / {who}, {said}"] = mine[yardstick] / result[yardstick]
    for (_, network, outputs, batch), result in found.items():
        if network == "resnet8":
            each = 1e3 / (int(outputs) * int(batch))
            name = f"{network} K={outputs} batch {batch}"
            out[f"{name}: ms per example and output, Jacobians"] = each * result["jacobians_s"]
            out[f"{name}: ms per example and output, values too"] = each * result["seconds"]
    return out


def clock(*functions, least=3, seconds=3.0):
    """Median seconds and CPU seconds of calls that take turns, the first (compilation) left out.

    There are ``least`` calls of each or more, and the pairs come in the order of the ``functions``.
    """
    for function in functions:
        function()
    times, start = [[] for _ in functions], time.perf_counter()
    while len(times[-1]) < least or time.perf_counter() - start < seconds * len(functions):
        for function, mine in zip(functions, times, strict=True):
            before, cpu = time.perf_counter(), time.process_time()
            function()
            mine.append((time.perf_counter() - before, time.process_time() - cpu))
    return [tuple(statistics.median(column) for column in zip(*mine, strict=True)) for mine in times]


def floor_passes(network, x):
    """Functions that take one forward pass, and one backward pass of one output to the input of every example."""
    import jax
    import jax.numpy as jnp

    forward = jax.jit(lambda variables, v: jax.vjp(lambda u: network.apply(variables, u), v))
    backward = jax.jit(lambda pull_back, seeds: pull_back(seeds))
    logits, pull_back = forward(network.variables, x)
    seeds = jnp.zeros_like(logits).at[:, 0].set(1.0)
    return (
        lambda: jax.block_until_ready(forward(network.variables, x)),
        lambda: jax.block_until_ready(backward(pull_back, seeds)),
    )


def ours(name, outputs, batch):
    import jax
    import jax.numpy as jnp
    import numpy as np

    from prune_jax import models
    from prune_jax.trainability import jacobian, passes

    shapes = {"mlp7_linear": (28, 28, 1), "mlp7_relu": (28, 28, 1), "resnet50": (224, 224, 3)}
    shape = shapes.get(name, (32, 32, 3))
    made = models.create(name, num_classes=outputs, input_shape=shape, key=jax.random.key(0))
    network = models.functional(made)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(batch, *shape)), jnp.float32)
    apply = jax.tree_util.Partial(network.apply, network.variables)

    def values():
        jax.block_until_ready(jacobian.jacobian_singular_values(apply, x))

    first_call = memory.rise_mb(values)
    resident = memory.median_rise_mb(values)
    timed = clock(values, *floor_passes(network, x))
    (found, cpu), (forward, forward_cpu), (backward, backward_cpu) = timed
    pieces = passes.passes(apply)
    wanted = passes.wanted(pieces, x, None)
    chunk = passes.plan(passes.abstract(pieces, x, wanted, narrow=False), None, None)

    def pulled():
        made = pieces.forward(x, wanted, narrow=False)
        return jax.block_until_ready(passes.pulled(pieces, made, chunk, batch))

    ((rows, rows_cpu),) = clock(pulled)
    plan = layout(pieces, x, wanted)
    on_device = jax.devices()[0].memory_stats()  # None on a CPU
    return {
        "seconds": found,
        "cpu_s": cpu,
        "examples_per_s": batch / found,
        "jacobians_s": rows,
        "jacobians_cpu_s": rows_cpu,
        "forward_s": forward,
        "backward_s": backward,
        "floor_s": forward + outputs * backward,
        "floor_cpu_s": forward_cpu + outputs * backward_cpu,
        "allotted_mb": allotted(pieces, x, wanted, plan) / 2**20,
        "resident_mb": resident,
        "first_call_resident_mb": first_call,
        "backend": jax.default_backend(),
        "device": jax.devices()[0].device_kind,
        **({"device_peak_mb": on_device["peak_bytes_in_use"] / 2**20} if on_device else {}),
        **plan,
    }


def layout(pieces, x, wanted):
    """How the values are computed: seeds pulled back, seeds at once, examples of a part, threads."""
    import jax

    from prune_jax.trainability import cpu, passes

    size, threads = cpu.share(x, passes.abstract(pieces, x, wanted, narrow=True))
    part = jax.ShapeDtypeStruct((size, *x.shape[1:]), x.dtype)
    shapes = passes.abstract(pieces, part, wanted, narrow=True)
    chunk = passes.plan(shapes, None, None, threads)
    return {"seeds": len(shapes.made.seeds), "chunk": chunk, "part": size, "threads": threads}


def allotted(pieces, x, wanted, plan):
    """Bytes that are live at once, on all threads: residuals, the Jacobian, the largest program's temporaries."""
    import jax

    from prune_jax.trainability import passes
    from prune_jax.trainability.passes import solve

    def temporaries(function, *arguments, **static):
        given = getattr(function, "args", ())
        lowered = getattr(function, "func", function).lower(*given, *arguments, **static)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    size, step = plan["part"], plan["chunk"]
    if size == len(x) and step == plan["seeds"]:
        return temporaries(pieces.values, x, wanted, method="auto")
    x = x[:size]
    made = pieces.forward(x, wanted, narrow=True)
    residuals = sum(leaf.nbytes for leaf in jax.tree.leaves(made))
    parts = passes.pulled(pieces, made, step, size)
    whole = sum(part.nbytes for part in parts)
    forward = residuals + temporaries(pieces.forward, x, wanted, narrow=True)
    pull = temporaries(pieces.pull, made.pull_back, made.seeds, 0, step=step, batch=size)
    count = min(len(wanted), x[0].size)
    finish = temporaries(solve, parts, made.entry, count=count, method="auto")
    return plan["threads"] * max(forward, residuals + whole + pull, residuals + whole + finish)


def peer(who, name, outputs, batch):
    import torch

    from benchmarks import peer_networks

    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    if name == "mlp7_linear":
        net, x = peer_networks.mlp7(classes=outputs), torch.randn(batch, 1, 28, 28)
    else:
        net = peer_networks.resnet(int(name.removeprefix("resnet")), channels=3, classes=outputs)
        x = torch.randn(batch, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    net.eval()
    rows = {"loop": class_loop, "loop_inputs": input_loop, "torch_func": jacrev}[who]

    def values():
        torch.linalg.svdvals(rows(net, x, outputs).flatten(2))

    first_call = memory.rise_mb(values)
    ((found, cpu),) = clock(values)
    return {
        "seconds": found,
        "cpu_s": cpu,
        "examples_per_s": batch / found,
        "resident_mb": memory.median_rise_mb(values),
        "first_call_resident_mb": first_call,
    }


def class_loop(net, x, outputs):
    """The field's routine, from its definition: one backward per class, weight gradients and all."""
    import torch

    x = x.detach().requires_grad_()
    logits = net(x)
    rows = []
    for k in range(outputs):
        x.grad = None
        net.zero_grad()
        one_hot = torch.zeros_like(logits)
        one_hot[:, k] = 1
        logits.backward(one_hot, retain_graph=True)
        rows.append(x.grad)
    return torch.stack(rows, 1)


def input_loop(net, x, outputs):
    """The same without what nobody needs."""
    import torch

    for parameter in net.parameters():
        parameter.requires_grad_(False)
    x = x.detach().requires_grad_()
    logits = net(x)
    return torch.stack(
        [torch.autograd.grad(logits[:, k].sum(), x, retain_graph=True)[0] for k in range(outputs)], 1
    )


def jacrev(net, x, outputs):
    import torch

    with torch.no_grad():
        return torch.func.vmap(torch.func.jacrev(lambda one: net(one[None])[0]))(x)
