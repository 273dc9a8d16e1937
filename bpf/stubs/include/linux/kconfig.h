/* bcc includes this first of all. See bpf/stubs/README.md */
#ifndef TCPTRACE_STUB_KCONFIG_H
#define TCPTRACE_STUB_KCONFIG_H

#include <linux/types.h>
#include <linux/version.h>

#endif
