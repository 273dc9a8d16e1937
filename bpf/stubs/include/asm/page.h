/* See bpf/stubs/README.md */
#define PAGE_SIZE 4096
