"""The preconditions, each met and not met."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.kernel.btf_blobs import Kernel, debian_6_1
from tracer.errors import MISSING_PRECONDITION, TcptraceError
from tracer.kernel import checks
from tracer.kernel.checks import Check, Missing, Ok
from tracer.kernel.programs import LOST_WITHOUT

ROOT = Path(__file__).resolve().parents[2]
REQUIRED = {"CAP_PERFMON": 38, "CAP_BPF": 39}
OPTIONAL = {"CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}
NUMBERS = REQUIRED | OPTIONAL
ALL = sum(1 << number for number in NUMBERS.values())


def status(folder: Path, effective: int, *, name: str = "python3") -> Path:
    """/proc/self/status of a process with these capabilities."""
    path = folder / "status"
    path.write_text(f"Name:\t{name}\nUid:\t0\t0\t0\t0\nCapPrm:\t{ALL:016x}\nCapEff:\t{effective:016x}\nCapBnd:\t{ALL:016x}\n")
    return path


def missing(check: Check) -> Missing:
    assert isinstance(check.found, Missing)
    return check.found


def has_bcc(folder: Path, source: str) -> str:
    """What the check says where a package bcc with that source comes first."""
    (folder / "bcc").mkdir()
    (folder / "bcc" / "__init__.py").write_text(source)
    program = "from tracer.kernel import checks; print(checks.bcc())"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}
    command = [sys.executable, "-c", program]
    return subprocess.run(command, env=environment, cwd=folder, check=True, capture_output=True, text=True).stdout


def test_all_capabilities(tmp_path: Path) -> None:
    assert checks.capabilities(status(tmp_path, ALL)) == [Check(name, Ok()) for name in checks._CAPABILITIES]
    assert all(check.found == Ok() for check in checks.capabilities(status(tmp_path, 0x1FF_FFFF_FFFF)))


@pytest.mark.parametrize("name", NUMBERS)
def test_each_capability_has_its_number(tmp_path: Path, name: str) -> None:
    found = checks.capabilities(status(tmp_path, ALL & ~(1 << NUMBERS[name])))
    (lacking,) = [check for check in found if check.found != Ok()]
    assert lacking.name == name and name in missing(lacking).why
    assert lacking.fatal == (name in REQUIRED)
    assert bool(missing(lacking).lost) == (name in OPTIONAL)


@pytest.mark.parametrize("text", ["", "Name:\tpython3\n", f"CapPrm:\t{ALL:016x}\n", f"Name:\tx\\nCapEff:\t{ALL:016x}\n"])
def test_a_status_that_does_not_tell_holds_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "status"
    path.write_text(text)
    assert {check.name for check in checks.capabilities(path) if check.fatal} == REQUIRED.keys()


def test_a_hostile_name_in_the_status_does_not_matter(tmp_path: Path) -> None:
    path = status(tmp_path, ALL)
    path.write_bytes(b"Name:\t\xff\xfeCapEff:\n" + path.read_bytes())
    assert all(check.found == Ok() for check in checks.capabilities(path))


@pytest.mark.parametrize(("uid", "says_root"), [(0, False), (1000, True)])
def test_who_is_not_root_is_told_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int, says_root: bool) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: uid)
    for check in checks.capabilities(status(tmp_path, 0)):
        assert ("needs root" in missing(check).why) == says_root
        assert missing(check).fix == "run it with sudo"


def test_btf_may_be_there_or_not(tmp_path: Path) -> None:
    path = tmp_path / "vmlinux"
    lacking = checks.btf(path)
    assert lacking.fatal and str(path) in missing(lacking).why
    assert "No such file" in missing(lacking).why and "CONFIG_DEBUG_INFO_BTF=y" in missing(lacking).fix
    path.touch()
    assert checks.btf(path) == Check("BTF", Ok(str(path)))


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("[none] integrity confidentiality\n", "none"),
        ("none [integrity] confidentiality\n", "integrity"),
        ("[none]", "none"),
        ("", "off"),
    ],
)
def test_lockdown_may_be_off_or_of_integrity(tmp_path: Path, text: str, mode: str) -> None:
    path = tmp_path / "lockdown"
    path.write_text(text)
    assert checks.lockdown(path) == Check("lockdown", Ok(mode))


def test_lockdown_of_confidentiality_forbids_all(tmp_path: Path) -> None:
    path = tmp_path / "lockdown"
    path.write_text("none integrity [confidentiality]\n")
    lacking = checks.lockdown(path)
    assert lacking.fatal and "confidentiality" in missing(lacking).why and "lockdown=integrity" in missing(lacking).fix


def test_a_kernel_without_lockdown_has_it_off(tmp_path: Path) -> None:
    assert checks.lockdown(tmp_path / "lockdown") == Check("lockdown", Ok("off"))


def test_pypis_bcc_is_told_from_the_compiler_collection(tmp_path: Path) -> None:
    said = has_bcc(tmp_path, "__version__ = '0.1.10'\nclass Client: ...\n")
    assert "Missing" in said and "unrelated package from PyPI" in said
    assert "pip uninstall bcc" in said and "python3-bpfcc" in said


def test_the_compiler_collection_says_its_version(tmp_path: Path) -> None:
    assert has_bcc(tmp_path, "__version__ = '0.26.0'\nclass BPF: ...\n") == "Check(name='bcc', found=Ok(detail='0.26.0'))\n"


def test_the_compiler_collection_may_not_say_its_version() -> None:
    module = ModuleType("bcc")
    module.BPF = object  # type: ignore[attr-defined]
    assert checks.bcc(lambda _: module) == Check("bcc", Ok("version unknown"))


def test_without_bcc_is_said_where_it_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bcc", None)
    lacking = checks.bcc()
    assert lacking.fatal and "bcc is missing" in missing(lacking).why
    assert "python3-bpfcc" in missing(lacking).fix and "python3-bcc" in missing(lacking).fix


def test_bcc_without_its_library_is_missing(tmp_path: Path) -> None:
    said = has_bcc(tmp_path, "import ctypes\nctypes.CDLL('libbcc-none.so.0')\n")
    assert "Missing" in said and "libbcc-none.so.0" in said


def test_what_only_loses_something_is_not_fatal() -> None:
    assert not Check("x", Missing("why", "fix", "something")).fatal
    assert Check("x", Missing("why", "fix")).fatal
    assert not Check("x", Ok()).fatal


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """All preconditions met."""
    monkeypatch.setattr(checks, "capabilities", lambda: [Check("CAP_BPF", Ok())])
    for name in ("btf", "lockdown", "bcc"):
        monkeypatch.setattr(checks, name, lambda name=name: Check(name, Ok()))
    return monkeypatch


@pytest.mark.parametrize("name", ["btf", "lockdown", "bcc"])
def test_what_is_required_and_missing_ends_the_start(sound: pytest.MonkeyPatch, name: str) -> None:
    checks.require()
    sound.setattr(checks, name, lambda: Check(name, Missing("the why", "the fix")))
    with pytest.raises(TcptraceError) as raised:
        checks.require()
    error = raised.value
    assert (error.cause, error.remedy, error.exit_code) == ("the why", "the fix", MISSING_PRECONDITION)


def test_the_first_that_is_fatal_is_told(sound: pytest.MonkeyPatch) -> None:
    lost = Check("CAP_SYS_PTRACE", Missing("passed over", "", "something"))
    sound.setattr(checks, "capabilities", lambda: [lost, Check("CAP_BPF", Missing("first", ""))])
    sound.setattr(checks, "bcc", lambda: Check("bcc", Missing("second", "")))
    with pytest.raises(TcptraceError, match="first"):
        checks.require()


def test_what_is_lost_does_not_end_the_start(sound: pytest.MonkeyPatch) -> None:
    sound.setattr(checks, "capabilities", lambda: [Check("CAP_SYS_PTRACE", Missing("why", "fix", "something"))])
    checks.require()


def test_without_btf_nothing_is_asked_of_it(sound: pytest.MonkeyPatch) -> None:
    sound.setattr(checks, "btf", lambda: Check("BTF", Missing("why", "fix")))
    sound.setattr(checks, "BTF", Path("/nowhere"))
    assert [check.name for check in checks.every()] == ["CAP_BPF", "BTF", "lockdown", "bcc"]


def of_btf(sound: pytest.MonkeyPatch, folder: Path, data: bytes) -> dict[str, Check]:
    path = folder / "vmlinux"
    path.write_bytes(data)
    sound.setattr(checks, "BTF", path)
    return {check.name: check for check in checks.every()[4:]}


def test_a_sound_kernel_passes_but_for_its_iterators(sound: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel = Kernel()
    kernel.structs["bpf_iter__tcp"] = {"sk_common": "sock_common *"}
    found = of_btf(sound, tmp_path, kernel.blob().build())
    layout = found.pop("BTF layout").found
    assert isinstance(layout, Ok) and layout.detail.endswith("fields")
    task_file = found.pop("iterator task_file")
    assert task_file.fatal and "no task_file iterator" in missing(task_file).why
    assert found.keys() == {"iterator tcp"} | {f"tracepoint {name}" for name in LOST_WITHOUT}
    assert all(isinstance(check.found, Ok) for check in found.values())


def test_a_kernel_whose_iterator_cannot_tell_sockets_is_refused(sound: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel = Kernel()  # as 5.10 is
    del kernel.enums["bpf_func_id"]["BPF_FUNC_sock_from_file"]
    kernel.structs |= {f"bpf_iter__{name}": {"sk_common": "sock_common *"} for name in ("tcp", "task_file")}
    found = of_btf(sound, tmp_path, kernel.blob().build())
    assert isinstance(found["iterator tcp"].found, Ok)
    task_file = found["iterator task_file"]
    assert task_file.fatal and "no bpf_sock_from_file" in missing(task_file).why and "Linux 5.11" in missing(task_file).fix


def test_a_tracepoint_that_is_missing_loses_what_the_programs_say(sound: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kernel = debian_6_1()
    kernel.tracepoints = {"tcp_probe": ("sk_buff *",)}
    found = of_btf(sound, tmp_path, kernel.blob().build())
    for name, lost in LOST_WITHOUT.items():
        check = found[f"tracepoint {name}"]
        assert missing(check).lost == lost and not check.fatal


def test_a_kernel_without_a_field_is_told_by_doctor_as_at_the_start(sound: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = of_btf(sound, tmp_path, Kernel().without("tcp_sock.rcv_nxt").blob().build())
    assert found.keys() == {"BTF layout"} and found["BTF layout"].fatal
    assert "tcp_sock.rcv_nxt" in missing(found["BTF layout"]).why


def test_btf_that_is_none_is_told(sound: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = of_btf(sound, tmp_path, b"no BTF at all, but long enough for a header")
    assert found.keys() == {"BTF layout"} and "cannot be read" in missing(found["BTF layout"]).why


@pytest.mark.kernel
def test_nothing_fatal_on_the_running_kernel() -> None:
    found = checks.every()
    assert [check for check in found if check.fatal] == []
    assert {f"tracepoint {name}" for name in LOST_WITHOUT} <= {check.name for check in found}
