"""Every primitive that JAX 0.10 to 0.12 defines and that has no rule, with the reason why not.

The others are in ``rules.RULES`` and ``rules_control.CONTROL``. ``FROZEN``: a network may use it, and on purpose
nothing that it touches is cut. The words are what a group says. ``ABSENT``: no jaxpr of a network's apply function
holds it outside of a primitive that is frozen itself. A test compares the three with the installed JAX.
"""

FOREIGN = "a kernel or call from outside JAX, made for these sizes"
SHARDED = "its body is written for the part of an array that one device holds"
STATE = "it reads or writes a reference, which is not followed"
WINDOWS = "the gradient of a window that picks one position"
SPARSE = "arrays of the sparse formats aren't followed"
SCALED = "a product of blocks that share a scale"

FROZEN: dict[str, str] = {
    **dict.fromkeys(
        ("ffi_call", "pure_callback", "io_callback", "buffer_callback", "call_exported"), FOREIGN
    ),
    **dict.fromkeys(("pallas_call", "tpu_custom_call", "core_map", "mpmd_map", "cudnn_fusion"), FOREIGN),
    **dict.fromkeys(
        (
            "dot_product_attention_fwd",
            "dot_product_attention_fwd_wrapper",
            "dot_product_attention_fp8_fwd",
            "dot_product_attention_fp8_fwd_wrapper",
        ),
        FOREIGN,
    ),
    **dict.fromkeys(("rnn_fwd", "rnn_bwd", "fused_call"), FOREIGN),
    **dict.fromkeys(("custom_fusion", "fusible", "call_hi_primitive"), FOREIGN),
    "shard_map": SHARDED,
    **dict.fromkeys(
        (
            *("bcoo_dot_general", "bcoo_dot_general_sampled", "bcoo_extract", "bcoo_fromdense"),
            *("bcoo_sort_indices", "bcoo_spdot_general", "bcoo_sum_duplicates", "bcoo_todense"),
            *("bcoo_transpose", "bcsr_dot_general", "bcsr_extract", "bcsr_fromdense", "bcsr_todense"),
            *("coo_fromdense", "coo_matmat", "coo_matvec", "coo_spmm", "coo_spmv", "coo_todense"),
            *("csr_fromdense", "csr_matmat", "csr_matvec", "csr_spmm", "csr_spmv", "csr_todense"),
            *("spsolve", "todense"),
        ),
        SPARSE,
    ),
    **dict.fromkeys(
        ("new_ref", "empty_ref", "free_ref", "freeze", "get", "swap", "addupdate", "accum_grad_in_ref"), STATE
    ),
    **dict.fromkeys(("run_state", "run_scoped", "create_linear", "pin", "unpin"), STATE),
    **dict.fromkeys(("new_box", "box_get", "box_set", "new_log", "log_extend", "log_read"), STATE),
    **dict.fromkeys(("select_and_gather_add", "select_and_scatter", "select_and_scatter_add"), WINDOWS),
    **dict.fromkeys(("scaled_dot", "scaled_matmul", "scaled_matmul_wrapper"), SCALED),
    "ragged_dot_general": "rows of a product are assigned to experts by numbers that the trace doesn't know",
    "custom_linear_solve": "linear algebra needs the whole matrix",
    "linear_call": "a linear map with a transposition of the network's own",
    "remat_opt": "a derivative rule of the network's own that is being traced",
    "to_edtype": "numbers of an extended type",
    "from_edtype": "numbers of an extended type",
    "empty": "an array without numbers",
    "empty2": "an array without numbers",
    "broadcast_to": STATE,
    "platform_index": "a number of the platform",
    "stage": "a program that is being staged",
}

IN_TWO_STEPS = ("all_gather", "all_to_all", "pbroadcast", "ppermute", "psum", "reduce_scatter")
STARTED = ("all_gather_reduced", "psum_invariant", "unreduced_psum", "unreduced_reduce_scatter")
ABSENT: dict[str, tuple[str, ...]] = {
    "a collective: it stands in the body of shard_map, which is frozen": (
        *(f"{name}{step}" for name in IN_TWO_STEPS for step in ("", "_start", "_done")),
        *(f"{name}{step}" for name in STARTED for step in ("", "_start")),
        *("all_gather_invariant", "axis_index", "pbroadcast_dynamic", "pmax", "pmin", "precv", "psend"),
        *("ragged_all_to_all", "unreduced_pmax", "unreduced_pmin"),
    ),
    "it stands in the body of a kernel, which is frozen": (
        *("assert_consumed_value", "consume", "einshape_lo", "emit_pipeline", "has_memory_space"),
        *("mosaic_gpu_p", "pipeline_body"),
        *("add_dependency", "bitcast", "conv", "delay", "dma_start", "dma_wait", "get_barrier_semaphore"),
        *("get_global", "jaxpr_call", "masked_load", "masked_swap", "matmul_acc_lhs", "matmul_lhs_fifo"),
        *("matmul_pop", "matmul_pop_fifo", "matmul_push_rhs", "multiple_of", "num_programs", "pack_dtype"),
        *("pack_elementwise", "prng_join", "prng_random_bits", "prng_seed", "prng_split", "program_id"),
        *("reciprocal", "roll", "semaphore_read", "semaphore_signal", "semaphore_wait", "stochastic_round"),
        *("trace_value", "unpack_dtype", "unpack_elementwise"),
    ),
    "part of a compiled program, not of a traced one": tuple(
        f"thunky.{name}"
        for name in (
            *("all_gather", "all_reduce", "all_to_all", "async_done", "async_start", "call_jax"),
            *("call_thunky_nested", "collective_group", "collective_permute", "cond", "copy", "custom_call"),
            *("inline_constant", "memset", "memzero", "ptx_kernel", "reduce_scatter", "while"),
        )
    ),
    "it stands for a derivative while JAX makes it": (
        *("call_hi_primitive_linearized", "custom_jvp_call_jaxpr", "custom_lin", "unreachable"),
        *("dot_product_attention_bwd", "dot_product_attention_bwd_wrapper", "dot_product_attention_fp8_bwd"),
        "dot_product_attention_fp8_bwd_wrapper",
    ),
    "sizes are numbers here, not symbols": ("dim_as_value", "dimension_size", "shape_assertion"),
    "it joins the parts that several processes hold, outside of the network": (
        *("global_array_to_host_local_array", "host_local_array_to_global_array"),
    ),
    "it orders effects and computes nothing": ("after_all", "create_token", "check"),
    "it stands in the implementation of random keys": ("iota_2x32_shape",),
}
