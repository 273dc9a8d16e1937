/* bcc's prelude wants to know; our programs go by BTF and never ask. See bpf/stubs/README.md */
#ifndef TCPTRACE_STUB_VERSION_H
#define TCPTRACE_STUB_VERSION_H

#define KERNEL_VERSION(a, b, c) (((a) << 16) + ((b) << 8) + (c))
#define LINUX_VERSION_CODE KERNEL_VERSION(5, 10, 0)

#endif
