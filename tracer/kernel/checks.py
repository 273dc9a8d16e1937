"""The preconditions: each check gives `Ok`, or what is `Missing`, why, and how to mend it.

Doctor, start-up and the kernel tests share these.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from tracer.errors import TcptraceError

BTF: Final = Path("/sys/kernel/btf/vmlinux")
LOCKDOWN: Final = Path("/sys/kernel/security/lockdown")
STATUS: Final = Path("/proc/self/status")

# include/uapi/linux/capability.h
_CAPABILITIES: Final[Mapping[str, tuple[int, str]]] = {
    "CAP_BPF": (39, ""),
    "CAP_PERFMON": (38, ""),
    "CAP_SYS_ADMIN": (21, "connections in other network namespaces are seen by their events only"),
    "CAP_SYS_PTRACE": (19, "what the reader's thread waits for, and the programs of other users"),
}
"""Number, and what is lost without it; empty where we cannot do without."""


@dataclass(frozen=True, slots=True)
class Ok:
    """All is as it should be; `detail` says what was found."""

    detail: str = ""


@dataclass(frozen=True, slots=True)
class Missing:
    """Something is not there: why, how to mend it, and what is lost (empty: all, tcptrace cannot run)."""

    why: str
    fix: str
    lost: str = ""


class Check(NamedTuple):
    """A named finding."""

    name: str
    found: Ok | Missing

    @property
    def fatal(self) -> bool:
        """Whether tcptrace cannot run for it."""
        return isinstance(self.found, Missing) and not self.found.lost


def require() -> None:
    """Raises TcptraceError for the first precondition without which nothing works. Quick: start-up waits for it."""
    for check in [*capabilities(), btf(), lockdown(), bcc()]:
        if isinstance(check.found, Missing) and check.fatal:
            raise TcptraceError(check.found.why, check.found.fix)


def every() -> list[Check]:
    """All checks, the quick ones first."""
    found = [*capabilities(), btf(), lockdown(), bcc()]
    if not isinstance(btf().found, Missing):
        found += _of_btf()
    return found


def capabilities(status: Path = STATUS) -> list[Check]:
    """Root has them all; a service may be given only these."""
    held = 0
    for line in status.read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            held = int(line.split()[1], 16)
    checks = []
    for name, (number, lost) in _CAPABILITIES.items():
        if held >> number & 1:
            checks.append(Check(name, Ok()))
        else:
            why = f"{name} is missing" if os.geteuid() == 0 else f"this needs root ({name} is missing)"
            checks.append(Check(name, Missing(why, "run it with sudo", lost)))
    return checks


def btf(path: Path = BTF) -> Check:
    """The kernel's type information."""
    try:
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        why = f"the kernel has no BTF at {path} ({error.strerror})"
        fix = "it needs a kernel built with CONFIG_DEBUG_INFO_BTF=y, as all large distributions' are"
        return Check("BTF", Missing(why, fix))
    return Check("BTF", Ok(str(path)))


def lockdown(path: Path = LOCKDOWN) -> Check:
    """Kernel lockdown: its confidentiality mode forbids BPF to read kernel memory."""
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return Check("lockdown", Ok("off"))
    mode = text[text.find("[") + 1 : text.find("]")]
    if mode == "confidentiality":
        return Check(
            "lockdown",
            Missing(
                "kernel lockdown is in confidentiality mode, which forbids BPF to read kernel memory",
                "boot with lockdown=integrity or without",
            ),
        )
    return Check("lockdown", Ok(mode or "off"))


def bcc(load: Callable[[str], Any] = importlib.import_module) -> Check:
    """The BPF Compiler Collection; `pip install bcc` gives something else of that name."""
    fix = "Debian and Ubuntu: apt-get install python3-bpfcc; Fedora: dnf install python3-bcc; then /usr/bin/python3 has it"
    try:
        module = load("bcc")
    except (ImportError, OSError) as error:  # OSError: the module is there, libbcc.so is not
        return Check("bcc", Missing(f"the Python module bcc is missing ({error})", fix))
    if not hasattr(module, "BPF"):
        why = "the Python module bcc here is not the BPF Compiler Collection but an unrelated package from PyPI"
        return Check("bcc", Missing(why, f"pip uninstall bcc. {fix}"))
    return Check("bcc", Ok(str(getattr(module, "__version__", "version unknown"))))


def _of_btf() -> list[Check]:
    from tracer.kernel import layouts
    from tracer.kernel.btf import Btf, BtfError
    from tracer.kernel.programs import LOST_WITHOUT

    try:
        types = Btf.load(BTF)
        types.expect({f"bpf_iter__{name}" for name in ("tcp", "task_file")} | {"bpf_func_id"})
        layout = layouts.resolve(types)
    except BtfError as error:
        return [Check("BTF layout", Missing(f"the kernel's BTF cannot be read: {error}", "please report it"))]
    except TcptraceError as error:
        return [Check("BTF layout", Missing(error.cause, error.remedy))]
    checks = [Check("BTF layout", Ok(f"{len(layouts.MEMBERS) - len(layout.missing)} of {len(layouts.MEMBERS)} fields"))]
    paths = {member.name: " and no ".join(member.paths) for member in layouts.MEMBERS}
    for name, lost in layout.missing.items():
        if not lost.startswith("nothing"):  # another field does its work
            why = f"the kernel's BTF has no {paths[name]}"
            checks.append(Check(f"field {name.lower()}", Missing(why, "a newer kernel may have it", lost)))
    for name, found in layout.tracepoints.items():
        told = Missing(found.why, found.fix, LOST_WITHOUT[name]) if isinstance(found, Missing) else found
        checks.append(Check(f"tracepoint {name}", told))
    for target in ("tcp", "task_file"):
        why = ""
        if types.struct_id(f"bpf_iter__{target}") is None:
            why = f"the kernel has no {target} iterator"
        elif target == "task_file" and "BPF_FUNC_sock_from_file" not in types.enum("bpf_func_id").values():
            why = "the kernel's task_file iterator cannot tell a socket from another file (no bpf_sock_from_file)"  # 5.10
        fix = "it needs Linux 5.11 or later with CONFIG_BPF_SYSCALL=y"
        checks.append(Check(f"iterator {target}", Missing(why, fix) if why else Ok()))
    return checks
