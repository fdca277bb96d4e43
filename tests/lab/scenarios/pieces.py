"""What several scenarios are made of."""

from __future__ import annotations

from tests.lab.guests import CLUSTER, IMAGES, SHARED, Disk

DISK = Disk(path=f"{SHARED}/@name.qcow2")
OWN = Disk(path=f"{IMAGES}/@name.qcow2")  # only on the source
CLUSTERED = Disk(path=f"{CLUSTER}/@name.qcow2")
NAMED = "qemu64"  # a CPU that every QEMU and every KVM can give
VNC = "<graphics type='vnc' port='{port}' autoport='{auto}' listen='{address}'/>"
VIDEO = "<video><model type='{model}'/></video>"


def custom(model: str, *features: str, check: str = "none") -> str:
    """A custom CPU; features as `require clwb`."""
    return (
        f"<cpu mode='custom' match='exact' check='{check}'><model>{model}</model>"
        f"{listed(features)}</cpu>"
    )


def host_model(*features: str) -> str:
    return f"<cpu mode='host-model'>{listed(features)}</cpu>"


def listed(features: tuple[str, ...]) -> str:
    """Features of a CPU as libvirt has them."""
    words = (feature.split() for feature in features)
    return "".join(f"<feature policy='{policy}' name='{name}'/>" for policy, name in words)
