/* Nothing of it is needed: see bpf/stubs/README.md */
