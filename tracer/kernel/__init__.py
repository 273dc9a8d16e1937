"""All that touches the kernel: BTF, programs, iterators, /proc."""
