"""Debian's kernels in QEMU, without KVM: packages fetched once, an initramfs of busybox, a folder that comes back."""

import gzip
import io
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
SCRIPT = HERE.parents[1] / "src" / "fastalloc" / "record" / "record.sh"
KERNELS = {  # packages; of newer ones `image` has no kernel in it, `binary` has
    "6.1": "^linux-image-6[.]1[.]0-[0-9]+-amd64$",
    "6.12": "^linux-image-6[.]12[.][0-9.]+[+]deb1[23]-amd64$",
    "7": "^linux-(image|binary)-7[.][0-9.]+[+]deb[0-9]+-amd64$",
}
NEWEST = "sid"  # the release of Debian that is asked for a kernel which this machine's own lists do not have
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
LIMIT = 900  # seconds of one boot


class UnavailableError(Exception):
    """What a boot needs cannot be had; the text says why."""


@dataclass(frozen=True)
class Guest:
    """One boot: ``options`` of the recorder, ``work`` of workload.sh, ``append`` to the kernel's command line."""

    kernel: str
    work: str
    options: tuple[str, ...] = ()
    cpus: int = 2
    megabytes: int = 512
    nodes: int = 1
    append: str = ""


def cache_folder() -> Path:
    """Where kernels are kept between runs."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fastalloc-kernels"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def need(program: str) -> str:
    """The path of ``program``."""
    found = shutil.which(program)
    if found is None:
        raise UnavailableError(f"{program} is not installed")
    return found


def _run(*words: str, cwd: Path | None = None) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnavailableError(f"{' '.join(words[:3])}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
    return done.stdout


def _lists_of_newest(folder: Path) -> list[str]:
    """Options under which apt reads the lists of NEWEST alone, from this machine's mirror, kept in ``folder``."""
    line = "$(ORIGIN) $(CODENAME) $(REPO_URI)"
    own = _run("apt-get", "indextargets", "--format", line, "Created-By: Packages").splitlines()
    mirrors = [found[1] for each in own if (found := re.fullmatch("Debian [a-z]+ ([^ ]+)", each))]
    if not mirrors:
        raise UnavailableError("apt has no lists of Debian; apt-get update?")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    source = folder / "newest.list"
    source.write_text(f"deb [signed-by={KEYRING}] {mirrors[0]} {NEWEST} main\n")
    places = {
        "Dir::Etc::sourcelist": source, "Dir::Etc::sourceparts": "-", "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache", "APT::Sandbox::User": "root",
    }  # fmt: skip
    options = [word for name, value in places.items() for word in ("-o", f"{name}={value}")]
    _run("apt-get", *options, "update")
    return options


def _numbers(package: str) -> tuple[list[int], bool]:
    """By which the newest of some packages of one kernel is found."""
    return [int(number) for number in re.findall("[0-9]+", package)], "-binary-" in package


def vmlinuz(kernel: str) -> Path:
    """The kernel image of Debian's newest package of ``kernel``, a key of KERNELS."""
    folder = cache_folder()
    kept = sorted(folder.glob(f"vmlinuz-{kernel}.*"))
    if kept:
        return kept[-1]
    need("apt-get")
    need("dpkg-deb")
    options: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        packages = _run("apt-cache", "search", "--names-only", KERNELS[kernel])
        if not packages:
            options = _lists_of_newest(Path(work))
            packages = _run("apt-cache", *options, "search", "--names-only", KERNELS[kernel])
        if not packages:
            raise UnavailableError(f"no package of a kernel {kernel} in the package lists; apt-get update?")
        newest = max((line.split()[0] for line in packages.splitlines()), key=_numbers)
        _run("apt-get", *options, "download", newest, cwd=Path(work))
        _run("dpkg-deb", "-x", str(next(Path(work).glob("*.deb"))), f"{work}/x")
        images = [path for path in Path(work, "x").rglob("vmlinuz*") if path.is_file() and not path.is_symlink()]
        if not images:
            raise UnavailableError(f"{newest} has no kernel in it")
        release = newest.split("-", 2)[2]
        return Path(shutil.copy(images[0], folder / f"vmlinuz-{release}"))


def initramfs(into: Path) -> Path:
    """A cpio archive with busybox, the recorder and the workloads."""
    busybox = Path(need("busybox"))
    if "statically" not in _run("file", "-L", str(busybox)) if shutil.which("file") else False:
        raise UnavailableError("busybox is not linked statically; install busybox-static")
    out = io.BytesIO()
    number = 0

    def entry(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> None:
        nonlocal number
        number += 1
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(name) + 1, 0)
        out.write(b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0")
        out.write(b"\0" * (-out.tell() % 4) + data)
        out.write(b"\0" * (-out.tell() % 4))

    for folder in ("bin", "proc", "sys", "dev", "tmp", "root"):
        entry(folder, stat.S_IFDIR | 0o755)
    entry("dev/console", stat.S_IFCHR | 0o600, device=(5, 1))
    entry("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes())
    entry("init", stat.S_IFREG | 0o755, (HERE / "guest.sh").read_bytes())
    entry("workload.sh", stat.S_IFREG | 0o755, (HERE / "workload.sh").read_bytes())
    entry("record.sh", stat.S_IFREG | 0o755, SCRIPT.read_bytes())
    entry("TRAILER!!!", 0)
    target = into / "initramfs.cpio.gz"
    target.write_bytes(gzip.compress(out.getvalue(), 1))
    return target


def boot(guest: Guest, into: Path) -> Path:
    """Boot ``guest``; the folder that it recorded, in ``into``. Raises UnavailableError without QEMU or kernel."""
    qemu = need("qemu-system-x86_64")
    image, archive = vmlinuz(guest.kernel), initramfs(into)
    line = f"console=ttyS0 quiet panic=-1 no_timer_check fa.work={guest.work} {guest.append}"
    if guest.options:
        line += f" fa.options={','.join(guest.options)}"
    words = [
        qemu, "-accel", "tcg", "-cpu", "max", "-nodefaults", "-display", "none", "-no-reboot",
        "-m", str(guest.megabytes), "-smp", str(guest.cpus),
        "-kernel", str(image), "-initrd", str(archive), "-append", line,
        "-serial", f"file:{into / 'console.txt'}", "-serial", f"file:{into / 'run.tar.gz'}",
    ]  # fmt: skip
    if guest.nodes > 1:
        part = guest.megabytes // guest.nodes
        each = guest.cpus // guest.nodes
        for node in range(guest.nodes):
            words += ["-object", f"memory-backend-ram,id=m{node},size={part}M"]
            words += ["-numa", f"node,nodeid={node},memdev=m{node},cpus={node * each}-{(node + 1) * each - 1}"]
    try:
        subprocess.run(words, timeout=LIMIT, check=True, capture_output=True)
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"no end after {LIMIT} s: {_console(into)}") from error
    with tarfile.open(into / "run.tar.gz") as packed:
        packed.extractall(into, filter="data")
    return into / "run"


def _console(into: Path) -> str:
    file = into / "console.txt"
    return file.read_text(errors="replace")[-600:] if file.exists() else ""
