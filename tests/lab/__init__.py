"""A laboratory on the real kernel: hosts (network namespaces), actors on them, a trace of it all, and independent witnesses."""
