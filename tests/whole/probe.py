#!/usr/bin/python3
"""A bridge's process that tries what it must not, and says what came of it: one line of JSON on its standard output."""
import ctypes, errno, json, mmap, os, signal, socket, sys, time

mode = sys.argv[1]
if "--manifest" in sys.argv:
    schema = {"type": "object", "properties": {"colour": {"type": "string", "enum": ["red", "blue"]}}, "additionalProperties": False}
    print(json.dumps({"name": "probe", "version": "1.0.0", "summary": "Tries what it must not",
                      "grants": ["accept", "directory"], "delivers": [], "config_schema": schema}))
    sys.exit(0)

libc = ctypes.CDLL(None, use_errno=True)


def call(number, *arguments):
    """A system call by number: 0, or the name of the error."""
    ctypes.set_errno(0)
    result = libc.syscall(number, *arguments)
    return "done" if result != -1 else errno.errorcode.get(ctypes.get_errno(), "?")


def attempt(what):
    try:
        what()
        return "done"
    except OSError as error:
        return errno.errorcode.get(error.errno, "?")


def connect(path):
    def inner():
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(path)
            peer.sendall(b'{"version":1,"request":{"command":"user-list"}}\n')
            if not peer.recv(1):
                raise OSError(errno.ECONNRESET, "closed")
    return inner


def bind(port):
    def inner():
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", port))
    return inner


if mode == "exit":
    sys.exit(7)
if mode == "leak":
    kept = []
    while True:
        # Shared memory is what limits on private memory don't count.
        block = mmap.mmap(-1, 8 << 20)
        block.write(b"x" * (8 << 20))
        kept.append(block)
        time.sleep(0.02)
if mode == "hoard":
    kept = []
    while True:
        # Never written to: only its limits keep it from taking more, since it is not in memory yet.
        kept.append(mmap.mmap(-1, 8 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
if mode == "spin":
    while True:
        pass
if mode == "wait":
    time.sleep(600)

home, allowed, granted = sys.argv[2], sys.argv[3], int(sys.argv[4])
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line) \
    if os.access("/proc/self/status", os.R_OK) and attempt(lambda: open("/proc/self/status")) == "done" else {}
before = set(range(0, 3))
descriptors = []
for descriptor in range(0, 4096):
    try:
        os.fstat(descriptor)
        descriptors.append(descriptor)
    except OSError:
        pass
facts = {
    "uid": os.getresuid(),
    "gid": os.getresgid(),
    "groups": os.getgroups(),
    "environment": sorted(os.environ),
    "descriptors": descriptors,
    "no_new_privs": libc.prctl(39, 0, 0, 0, 0),
    "core": __import__("resource").getrlimit(4)[0],
    "files": {
        "configuration": attempt(lambda: open(home + "/mesyx.toml")),
        "instance key": attempt(lambda: open(home + "/instance.key")),
        "store": attempt(lambda: os.listdir(home + "/data")),
        "shadow": attempt(lambda: open("/etc/shadow")),
        "world-readable elsewhere": attempt(lambda: open(home + "/../readable")),
        "allowed": attempt(lambda: open(allowed + "/readable")),
        "write to allowed": attempt(lambda: open(allowed + "/new", "w")),
        "write to /tmp": attempt(lambda: open("/tmp/mesyx-probe", "w")),
        "certificates": attempt(lambda: os.listdir("/etc/ssl")),
    },
    "control socket": attempt(connect(home + "/control.sock")),
    "kill the server": attempt(lambda: os.kill(os.getppid(), 0)),
    "bind another port": attempt(bind(granted + 1)),
    "bind a granted port": attempt(bind(granted)),
    "fork": attempt(lambda: os.fork() or os._exit(0)),
    "execute": attempt(lambda: os.posix_spawn("/bin/true", ["true"], {})),
    "setsid": attempt(os.setsid),
    "ptrace": call(101, 16, os.getppid(), 0, 0),
    "unshare": call(272, 0x10000000),
    "mount": call(165, b"none", b"/", b"tmpfs", 0, None),
    "bpf": call(321, 0, None, 0),
    "io_uring": call(425, 1, None),
    "keyctl": call(250, 0, 0, 0, 0, 0),
    "raw socket": attempt(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)),
    "internet": attempt(lambda: socket.create_connection(("127.0.0.1", int(sys.argv[5])), 5).close()),
    "x32": call(0x40000000 + 39),
}
print("probe " + json.dumps(facts), flush=True)
time.sleep(600)
