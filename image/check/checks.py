"""What must hold of the image, at rest and at work. Each check returns what it saw, or raises CheckError."""

import errno
import http.client
import json
import stat
from collections import Counter
from pathlib import Path
from typing import Any

from image.check.buildah import Image
from image.check.commands import CheckError
from image.check.container import Container
from serving.client import PredictionClient

SBOM = "usr/share/sbom/triptych.cdx.json"
TOOLS = {"apt", "bash", "busybox", "curl", "dash", "dpkg", "ldconfig", "perl", "pip", "sh", "su", "wget"}
REVIEW = "a wonderful and moving film"


def expect(holds: bool, otherwise: str) -> None:
    """Raise CheckError unless it holds."""
    if not holds:
        raise CheckError(otherwise)


def same(one: Image, other: Image) -> str:
    """Two builds made the same layers and the same configuration."""
    differ = [a.folder for a, b in zip(one.layers, other.layers, strict=True) if a.digest != b.digest]
    expect(not differ, f"built twice, other layers: {differ}")
    expect(one.config == other.config, f"built twice, configured otherwise: {one.config} and {other.config}")
    digests = ", ".join(f"{layer.folder} {layer.digest[7:19]}" for layer in one.layers)
    return f"built twice from nothing, the same layers: {digests}"


def configuration(image: Image) -> str:
    """A number for a user, and no command that needs a shell."""
    config = image.config
    expect(config["User"] == "65532:65532", f"user {config['User']}")
    health = config["Healthcheck"]["Test"]
    expect(health[0] == "CMD", f"the health check needs a shell: {health}")
    return f"user {config['User']}; {' '.join([*config['Entrypoint'], *config['Cmd']])}; health check without a shell"


def files(root: Path) -> str:
    """No tool, nothing that gives rights, nothing but /tmp that others may write to."""
    paths = [path for path in root.rglob("*") if not path.is_symlink()]
    tools = sorted(str(path.relative_to(root)) for path in paths if path.is_file() and path.name in TOOLS)
    expect(not tools, f"tools: {tools}")
    modes = {f"/{path.relative_to(root)}": path.stat() for path in paths}
    rights = [name for name, each in modes.items() if each.st_mode & (stat.S_ISUID | stat.S_ISGID)]
    expect(not rights, f"set-user-id: {rights}")
    writable = [name for name, each in modes.items() if each.st_mode & stat.S_IWOTH or each.st_uid or each.st_gid]
    expect(writable == ["/tmp"], f"not root's alone: {writable}")
    executable = {name for name, each in modes.items() if stat.S_ISREG(each.st_mode) and each.st_mode & stat.S_IXUSR}
    programs = sorted(name for name in executable if name.rpartition("/")[0].endswith("bin"))
    return f"{len(paths)} files and folders; programs: {', '.join(programs)}; writable by others: /tmp"


def bill(root: Path) -> str:
    """The bill of materials is there, and knows of all three kinds of things."""
    document = json.loads((root / SBOM).read_text())
    kinds = Counter(each["purl"].split("/")[0] if "purl" in each else each["type"] for each in document["components"])
    for kind in ("pkg:pypi", "pkg:deb", "machine-learning-model"):
        expect(kinds[kind] > 0, f"none of {kind} in the bill of materials")
    return f"/{SBOM}: " + ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))


def answers(ready: dict[str, Any]) -> str:
    """It answers over gRPC and over HTTP, from outside."""
    address = ready["grpc"].replace("0.0.0.0", "127.0.0.1")
    with PredictionClient(address) as client:
        grpc = client.predict_sentiment(REVIEW)[0].positive_probability
    connection = http.client.HTTPConnection(ready["http"].removeprefix("http://").replace("0.0.0.0", "127.0.0.1"))
    connection.request("POST", "/v1/sentiment", json.dumps({"reviews": [REVIEW]}), {"Content-Type": "application/json"})
    answer = connection.getresponse()
    body = json.loads(answer.read())
    expect(answer.status == 200, f"HTTP {answer.status}: {body}")
    expect(abs(body["predictions"][0]["positive_probability"] - grpc) < 1e-6, f"gRPC {grpc}, HTTP {body}")
    return f"gRPC and HTTP answer from outside, {grpc:.4f} both"


def healthy(container: Container, image: Image) -> str:
    """The health check of the image passes."""
    done = container.execute(*image.config["Healthcheck"]["Test"][1:])
    expect(done.returncode == 0, f"health check: {done.returncode} {done.stderr}")
    return "health check: 0"


def locked(container: Container) -> str:
    """The server has no rights and a root file system that can't be written to."""
    status = container.python("print(open('/proc/1/status').read())")
    told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    expect(told["Uid"].split() == ["65532"] * 4, f"user {told['Uid']}")
    expect(int(told["CapEff"], 16) == int(told["CapBnd"], 16) == 0, "it has capabilities")
    expect(told["NoNewPrivs"] == "1", "it may gain privileges")
    code = "import errno\ntry: open('/app/x', 'w')\nexcept OSError as error: print(error.errno)"
    expect(container.python(code) == str(errno.EROFS), "the root file system can be written to")
    return "uid 65532, no capabilities, no new privileges, root file system read-only"


def sound(container: Container) -> str:
    """Every shipped model passes every check that the server knows, in the image's own processes."""
    done = container.execute("python", "-m", "serving", "check", "/models")
    expect(done.returncode == 0, f"python -m serving check /models:\n{done.stdout}{done.stderr}")
    return "python -m serving check /models: " + done.stdout.splitlines()[-1]


def written(container: Container) -> str:
    """Nothing was written, not even where it could have been."""
    code = "import os; print([os.path.join(*each) for f in ('/tmp', '/dev/shm') for each in _(f)])"
    walk = "_ = lambda f: ((d, n) for d, _, names in os.walk(f) for n in names)"
    left = container.python(f"import os; {walk}; {code}")
    expect(left == "[]", f"it wrote {left}")
    return "nothing in /tmp and /dev/shm"
