"""What kubectl makes of k8s/training: valid for Kubernetes, and nothing unchecked is ever published."""

import argparse
import functools
import re
from pathlib import Path

import pytest

from training.commands import publish
from training.commands.common import parents

from .kustomize import Manifests, built, compose, needs_kubectl

pytestmark = needs_kubectl

FIT, CHECK, PUBLISH = "fit", "check", "publish"


@functools.cache
def objects() -> dict[tuple[str, str], dict]:
    return {(each["kind"], each["metadata"]["name"]): each for each in built("training")}


@pytest.fixture
def cronjob() -> dict:
    return objects()["CronJob", "triptych-training"]["spec"]


@pytest.fixture
def run(cronjob) -> dict:
    return cronjob["jobTemplate"]["spec"]


@pytest.fixture
def pod(run) -> dict:
    return run["template"]["spec"]


@pytest.fixture
def steps(pod) -> dict[str, dict]:
    return {each["name"]: each for each in (*pod["initContainers"], *pod["containers"])}


def mounts(step: dict) -> dict[str, str]:
    return {mount["mountPath"]: mount["name"] for mount in step["volumeMounts"]}


def test_the_job_runs_what_the_schedule_runs(run):
    assert objects()["Job", "triptych-training"]["spec"] == run


def test_the_servers_service_sends_nothing_to_training(run):
    selector = Manifests(built("base")).service["spec"]["selector"]
    assert not selector.items() <= run["template"]["metadata"]["labels"].items()


def test_runs_do_not_overlap_hang_or_repeat_a_refusal(cronjob, run, pod):
    assert cronjob["concurrencyPolicy"] == "Forbid"
    assert run["activeDeadlineSeconds"] <= cronjob["startingDeadlineSeconds"]
    assert run["backoffLimit"] > 0
    assert pod["restartPolicy"] == "Never"  # podFailurePolicy allows no other
    ignored, refused = run["podFailurePolicy"]["rules"]
    assert ignored == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}]}
    assert (refused["action"], refused["onExitCodes"]) == ("FailJob", {"operator": "In", "values": [1]})


def test_nothing_is_published_before_it_is_checked(pod, steps):
    assert [each["name"] for each in pod["initContainers"]] == [FIT, CHECK]  # one after another
    assert [each["name"] for each in pod["containers"]] == [PUBLISH]
    staged = next(word.removeprefix("--out=") for word in steps[FIT]["args"] if word.startswith("--out="))
    assert steps[CHECK]["command"][:5] == ["python", "-m", "serving", "check", staged]
    assert steps[PUBLISH]["args"] == ["publish", staged, "/models"]


def test_only_the_last_step_sees_the_repository(pod, steps):
    assert "models" not in {*mounts(steps[FIT]).values(), *mounts(steps[CHECK]).values()}
    assert mounts(steps[PUBLISH])["/models"] == "models"
    workspace = next(volume for volume in pod["volumes"] if volume["name"] == "workspace")
    assert "emptyDir" in workspace, "what a failed try left must be gone at the next"


def test_the_steps_are_commands_that_there_are(steps):
    shared = parents()
    parser = argparse.ArgumentParser()
    publish.add(parser.add_subparsers(), shared)
    options = parser.parse_args(steps[PUBLISH]["args"])
    assert (options.staged, options.repository) == (Path("/workspace/models"), Path("/models"))
    assert not options.force


def test_what_the_steps_write_to_is_mounted_and_the_rest_is_read_only(pod, steps):
    claims = {name for kind, name in objects() if kind == "PersistentVolumeClaim"}
    volumes = {volume["name"] for volume in pod["volumes"]}
    for step in steps.values():
        assert set(mounts(step).values()) <= volumes
        assert "/tmp" in mounts(step)
        for word in step.get("args", []):
            if place := re.search(r"(?:^|=)(/\w+)", word):
                assert place[1] in mounts(step)
        for variable in step.get("env", []):
            assert variable["value"] in mounts(step)
    assert {
        volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume
    } == claims


def test_new_volumes_can_be_written_to(pod):
    security = pod["securityContext"]
    assert security["fsGroup"] == security["runAsGroup"] > 0


def test_the_steps_are_of_the_training_image(pod, steps):
    assert {step["image"] for step in steps.values()} == {"triptych:training"}
    assert ("ServiceAccount", pod["serviceAccountName"]) in objects()


def test_servers_can_serve_what_training_publishes(pod):
    server = Manifests(compose(("overlays/cpu",), ("models-pvc",)))
    (volume,) = (each for each in server.pod["volumes"] if each["name"] == "models")
    (written,) = (each for each in pod["volumes"] if each["name"] == "models")
    assert volume["persistentVolumeClaim"]["claimName"] == written["persistentVolumeClaim"]["claimName"]
    assert {each["name"] for each in server.container["volumeMounts"]} == {"tmp", "models"}
