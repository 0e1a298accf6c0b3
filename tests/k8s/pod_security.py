"""What keeps a pod from the "restricted" Pod Security Standard, and from the rules of this project beyond it.

https://kubernetes.io/docs/concepts/security/pod-security-standards/, baseline and restricted together, for Linux.
"""

from collections.abc import Iterator

from .kustomize import Object

VOLUMES = {
    *("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"),
    "image",  # since Kubernetes 1.33 (kubernetes/kubernetes#130394)
}
CAPABILITIES = {"NET_BIND_SERVICE"}
SECCOMP = {"RuntimeDefault", "Localhost"}
SYSCTLS = {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ping_group_range"}


def containers(pod: Object) -> list[Object]:
    """All containers of a pod's specification."""
    return [*pod.get("initContainers", ()), *pod["containers"], *pod.get("ephemeralContainers", ())]


def violations(pod: Object) -> Iterator[str]:
    """Why the API server would refuse the pod in a namespace of the restricted standard."""
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(name):
            yield name
    shared = pod.get("securityContext", {})
    if {each["name"] for each in shared.get("sysctls", ())} - SYSCTLS:
        yield "sysctls"
    for volume in pod.get("volumes", ()):
        if not volume.keys() - {"name"} <= VOLUMES:
            yield f"volume {volume['name']}"
    for each in containers(pod):
        own = each.get("securityContext", {})
        where = each["name"]
        if own.get("privileged"):
            yield f"{where}: privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{where}: allowPrivilegeEscalation"
        if own.get("runAsNonRoot", shared.get("runAsNonRoot")) is not True:
            yield f"{where}: runAsNonRoot"
        if own.get("runAsUser", shared.get("runAsUser")) == 0:
            yield f"{where}: runAsUser"
        profile = own.get("seccompProfile", shared.get("seccompProfile", {}))
        if profile.get("type") not in SECCOMP:
            yield f"{where}: seccompProfile"
        capabilities = own.get("capabilities", {})
        if "ALL" not in capabilities.get("drop", ()) or not set(capabilities.get("add", ())) <= CAPABILITIES:
            yield f"{where}: capabilities"
        if own.get("procMount", "Default") != "Default":
            yield f"{where}: procMount"
        if any("hostPort" in port for port in each.get("ports", ())):
            yield f"{where}: hostPort"


def further_violations(pod: Object) -> Iterator[str]:
    """What this project asks for beyond the standard."""
    if pod.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken"
    if pod.get("enableServiceLinks") is not False:
        yield "enableServiceLinks"  # TRIPTYCH_PORT and the like would look like settings
    for each in containers(pod):
        where = each["name"]
        if each.get("securityContext", {}).get("readOnlyRootFilesystem") is not True:
            yield f"{where}: readOnlyRootFilesystem"
        image = each["image"].rpartition("/")[2]
        if "@" not in image and image.partition(":")[2] in ("", "latest"):
            yield f"{where}: image {image}"
        requests, limits = (each.get("resources", {}).get(name, {}) for name in ("requests", "limits"))
        if "cpu" not in requests or "memory" not in requests:
            yield f"{where}: requests"
        # Memory that was asked for is memory that is there. No CPU limit: throttling would show as tail latency.
        if limits.get("memory") != requests.get("memory") or "cpu" in limits:
            yield f"{where}: limits"
