"""The check of the image, as far as it goes without building one."""

import stat
from pathlib import Path

import pytest

from image.check import buildah, checks, container
from image.check.buildah import Buildah, Image, Layer, context
from image.check.commands import CheckError, run

ROOT = Path(__file__).parents[2]
CONFIG = {
    "User": "65532:65532",
    "Env": ["PATH=/opt/venv/bin", "TRIPTYCH_HTTP_ADDRESS=0.0.0.0:8000"],
    "Entrypoint": ["python", "-m", "serving"],
    "Cmd": ["serve"],
    "WorkingDir": "/app",
    "Healthcheck": {"Test": ["CMD", "python", "-c", "pass"]},
}


def image(*digests: str, **config: object) -> Image:
    return Image(CONFIG | config, tuple(Layer("/app", digest, 2, 1) for digest in digests))


def test_a_context_is_what_the_build_is_let_see(tmp_path):
    copy = context(ROOT, tmp_path)
    assert {path.name for path in copy.iterdir()} == {
        *("Dockerfile", ".dockerignore", "pyproject.toml", "constraints.txt"),
        *("image", "models", "protos", "serving", "training"),
    }
    assert not (copy / "image/check").exists()


def test_pip_settings_go_into_the_build_without_folders_of_this_machine(tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    for name in ("PIP_FIND_LINKS", "PIP_CERT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "https://user:secret@index.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///wheels https://more.example/simple")
    monkeypatch.setenv("PIP_CERT", "/etc/ca.crt")
    file = Buildah(tmp_path, "vfs")._pip_settings()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    lines = file.read_text().splitlines()
    assert "index-url = https://user:secret@index.example/simple" in lines
    assert "extra-index-url = https://more.example/simple" in lines
    assert f"cert = {buildah.CERTIFICATES}" in lines


def test_a_container_has_no_rights():
    told = container._specification(Path("/rootfs"), CONFIG, {"TRIPTYCH_HTTP_ADDRESS": "0.0.0.0:18000"})
    assert told["root"] == {"path": "/rootfs", "readonly": True}
    process = told["process"]
    assert process["user"] == {"uid": 65532, "gid": 65532}
    assert process["noNewPrivileges"]
    assert not any(process["capabilities"].values())
    assert process["args"] == ["python", "-m", "serving", "serve"]
    assert process["env"] == ["PATH=/opt/venv/bin", "TRIPTYCH_HTTP_ADDRESS=0.0.0.0:18000"]


def test_two_builds_that_differ_are_told_apart():
    assert "sha256" not in checks.same(image("sha256:a"), image("sha256:a"))
    with pytest.raises(CheckError, match="/app"):
        checks.same(image("sha256:a"), image("sha256:b"))
    with pytest.raises(CheckError, match="configured"):
        checks.same(image("sha256:a"), image("sha256:a", User="0:0"))


def test_a_configuration_that_needs_root_or_a_shell_fails():
    checks.configuration(image())
    with pytest.raises(CheckError, match="user"):
        checks.configuration(image(User="root"))
    with pytest.raises(CheckError, match="shell"):
        checks.configuration(image(Healthcheck={"Test": ["CMD-SHELL", "curl"]}))


def test_files_that_give_rights_or_tools_fail(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").touch(mode=0o755)
    with pytest.raises(CheckError, match="bin/sh"):
        checks.files(tmp_path)
    (tmp_path / "bin/sh").rename(tmp_path / "bin/passwd")
    (tmp_path / "bin/passwd").chmod(0o4755)
    with pytest.raises(CheckError, match="/bin/passwd"):
        checks.files(tmp_path)
    (tmp_path / "bin/passwd").chmod(0o777)
    with pytest.raises(CheckError, match="not root's alone"):
        checks.files(tmp_path)


def test_a_command_that_fails_says_what_it_said():
    with pytest.raises(CheckError, match="no such thing"):
        run("sh", "-c", "echo no such thing >&2; exit 3")
