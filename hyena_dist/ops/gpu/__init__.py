"""The operators in Triton kernels: the functions of `ops.fused`, for GPUs."""
