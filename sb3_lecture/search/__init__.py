"""The one batched tree search: its tree, its simulators, its kernels."""
