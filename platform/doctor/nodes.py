"""What the nodes of a cluster say of themselves: storage that all of them see, clocks, versions, GPUs, space.

A task runs on every node. The driver leaves a file in each place, every node reads it and leaves one of its own, and
the driver reads those: what all of them see is shared.
"""

import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from spin_rl.platform.cluster.client import judge_resources
from spin_rl.platform.common import ray_session  # noqa: F401  # makes settings that Ray reads when it is imported
from spin_rl.platform.common.findings import Finding, State, first_line
from spin_rl.platform.common.pins import PINS
from spin_rl.platform.common.places import is_absolute, is_remote
from spin_rl.platform.doctor.machine import check_versions
from spin_rl.platform.doctor.storage import judge_space, why_not_written

_ANSWER = 120.0  # seconds for a node to start a worker and look around
_SCALING = 180.0  # seconds for a first node with CPUs
_PATIENCE = 5.0  # seconds for a network file system to show what another node wrote
_GIB = 2**30
_OWN = "Ray's own files"
_SKEW_WARNING, _SKEW_PROBLEM = 1.0, 30.0
"""Seconds. Leases and heartbeats in the storage compare clocks of different nodes, to tens of seconds."""

Places = Mapping[str, str]
"""Location by the option that names it (``storage``, ``data``)."""


@dataclass(frozen=True)
class NodeReport:
    """What one node found."""

    name: str
    promised_gpus: float
    gpus: int
    versions: Finding
    missing: tuple[str, ...] = ()  # places where the driver's file was not seen
    failed: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # text and mend by place that was not written
    free: Mapping[str, float] = field(default_factory=dict)  # GiB by place, and of Ray's own files


def check_nodes(places: Places) -> list[Finding]:
    """Findings of the nodes of the cluster that Ray is connected to; each place is looked at from all of them."""
    import ray

    _wait_for_cpus()
    alive = [node for node in ray.nodes() if node["Alive"]]
    findings = [judge_resources("the cluster", [node["Resources"] for node in alive])]
    for subject, location in places.items():
        if not is_absolute(location):
            findings.append(
                Finding(
                    subject,
                    State.PROBLEM,
                    f"'{location}' is relative, and a job's folder is deleted after it",
                    f"name a folder that every node mounts with --{subject}",
                )
            )
    places = {subject: place for subject, place in places.items() if is_absolute(place)}
    probe = f".spin-rl-probe-{uuid.uuid4().hex[:12]}"
    every = places
    failed = _leave_files(places, probe, "driver")
    findings += [Finding(subject, State.PROBLEM, text, mend) for subject, (text, mend) in failed.items()]
    places = {subject: place for subject, place in places.items() if subject not in failed}
    try:
        reports, silent = _ask_nodes(alive, places, probe)
        findings += silent
        seen = {
            subject: _wait_for(place, probe, [node["NodeID"] for node, _ in reports])
            for subject, place in places.items()
        }
    finally:
        _remove_files(every, probe)
    for subject, place in places.items():
        findings.append(_judge_place(subject, place, reports, seen[subject]))
    for _, report in reports:
        findings += _judge_node(report)
    findings.append(_judge_clocks(_skews([node for node, _ in reports])))
    return findings


def _wait_for_cpus() -> None:
    """Give a cluster that scales by itself, or has just been started, the time to have a node that works."""
    from ray.autoscaler.sdk import request_resources

    if _has_cpus():
        return
    request_resources(num_cpus=1)
    until = time.monotonic() + _SCALING
    while not _has_cpus() and time.monotonic() < until:
        time.sleep(1.0)
    request_resources(num_cpus=0)  # what comes next asks for what it needs


def _has_cpus() -> bool:
    import ray

    return bool(ray.cluster_resources().get("CPU", 0.0) >= 1)


def _ask_nodes(
    nodes: Sequence[Mapping[str, Any]], places: Places, probe: str
) -> tuple[list[tuple[Mapping[str, Any], NodeReport]], list[Finding]]:
    """Each node with its report; findings of those that gave none."""
    import ray
    from ray.exceptions import GetTimeoutError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    look = ray.remote(num_cpus=0, max_retries=0)(look_around)
    names = _names(nodes)
    asked = [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
            name, node["NodeID"], node["Resources"].get("GPU", 0.0), dict(places), probe
        )
        for node, name in zip(nodes, names, strict=True)
    ]
    until = time.monotonic() + _ANSWER
    reports, silent = [], []
    for node, name, answer in zip(nodes, names, asked, strict=True):
        try:
            reports.append((node, ray.get(answer, timeout=max(0.1, until - time.monotonic()))))
        except GetTimeoutError:
            text = f"{name} starts no worker within {_ANSWER:.0f} s"
            silent.append(
                Finding("node", State.PROBLEM, text, "look at its memory and at Ray's logs there, or stop it")
            )
        except Exception as error:  # it died, or its Python cannot import what this one can
            text = f"{name} cannot run a task: {str(error).strip().splitlines()[-1]}"
            silent.append(Finding("node", State.PROBLEM, text, "run it from the image, or install requirements.txt"))
    return reports, silent


def look_around(name: str, node_id: str, promised_gpus: float, places: dict[str, str], probe: str) -> NodeReport:
    """What the node that runs this has to say."""
    missing = tuple(subject for subject, place in places.items() if not _wait_for(place, probe, ["driver"]))
    shared = {subject: place for subject, place in places.items() if subject not in missing}
    failed = _leave_files(shared, probe, node_id)
    free = {subject: shutil.disk_usage(place).free / _GIB for subject, place in shared.items() if not is_remote(place)}
    session = os.environ.get("TMPDIR", "/tmp")
    return NodeReport(
        name,
        promised_gpus,
        _count_gpus() if promised_gpus else 0,
        check_versions(PINS),
        missing,
        failed,
        {**free, _OWN: shutil.disk_usage(session).free / _GIB},
    )


def _count_gpus() -> int:
    """GPUs that torch can use on this node, whatever Ray lets this task see of them."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment)
    return int(answer.stdout.strip() or 0)


def _names(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The nodes' addresses; with the beginning of their ids where some share one."""
    addresses = [node["NodeManagerAddress"] for node in nodes]
    return [
        address if addresses.count(address) == 1 else f"{address}/{node['NodeID'][:6]}"
        for node, address in zip(nodes, addresses, strict=True)
    ]


def _leave_files(places: Places, probe: str, name: str) -> dict[str, tuple[str, str]]:
    """Write a file of one's own into the probe's folder of every place; text and mend of what failed, by place."""
    import fsspec

    failed = {}
    for subject, place in places.items():
        try:
            filesystem, folder = fsspec.core.url_to_fs(place)
            filesystem.makedirs(f"{folder}/{probe}", exist_ok=True)
            filesystem.pipe_file(f"{folder}/{probe}/{name}", name.encode())
        except Exception as error:  # every file system has errors of its own
            failed[subject] = why_not_written(place, error, f"--{subject}")
    return failed


def _wait_for(place: str, probe: str, names: Sequence[str]) -> set[str]:
    """Which of the files ``names`` can be read; gives them a moment to appear."""
    import fsspec

    filesystem, folder = fsspec.core.url_to_fs(place)
    until = time.monotonic() + _PATIENCE
    seen: set[str] = set()
    while True:
        for name in set(names) - seen:
            try:
                if filesystem.cat_file(f"{folder}/{probe}/{name}") == name.encode():
                    seen.add(name)
            except Exception:  # not there yet, or never
                continue
        if len(seen) == len(set(names)) or time.monotonic() > until:
            return seen
        time.sleep(0.1)


def _remove_files(places: Places, probe: str) -> None:
    import fsspec

    for place in places.values():
        with suppress(Exception):  # an empty folder that stays harms nobody
            filesystem, folder = fsspec.core.url_to_fs(place)
            filesystem.rm(f"{folder}/{probe}", recursive=True)


def _judge_place(
    subject: str, place: str, reports: list[tuple[Mapping[str, Any], NodeReport]], seen: set[str]
) -> Finding:
    for node, report in reports:
        if subject in report.failed:
            text, mend = report.failed[subject]
            return Finding(subject, State.PROBLEM, f"on {report.name}, {text}", mend)
        if subject in report.missing or node["NodeID"] not in seen:
            text = f"{place} is not shared: {report.name} has a folder of its own there, or none"
            mend = f"mount the same folder on every node, or name one that is with --{subject}"
            return Finding(subject, State.PROBLEM, text, mend)
    whom = "the node" if len(reports) == 1 else f"all {len(reports)} nodes"
    return Finding(subject, State.OK, f"{place} can be written by {whom}, and what one writes the others see")


def _judge_node(report: NodeReport) -> list[Finding]:
    """What is wrong with one node by itself."""
    subject = f"node {report.name}"
    findings = []
    if report.versions.state is not State.OK:
        mend = "run it from the image, or install requirements.txt there"
        findings.append(Finding(subject, report.versions.state, report.versions.text, mend))
    if report.gpus < report.promised_gpus:
        text = f"promises {report.promised_gpus:g} GPUs, torch can use {report.gpus} there"
        mend = "mend its driver, container runtime or torch, or start it with the right --num-gpus"
        findings.append(Finding(subject, State.PROBLEM, text, mend))
    for place, free in report.free.items():
        finding = judge_space(subject, place, free, "ray start --temp-dir" if place == _OWN else f"--{place}")
        if finding.state is not State.OK:
            findings.append(finding)
    return findings


def _skews(nodes: Sequence[Mapping[str, Any]]) -> dict[str, tuple[float, float]]:
    """Seconds by which each node's clock is ahead of ours, and how far that may be wrong."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    read = ray.remote(num_cpus=0, max_retries=0)(read_clock)
    skews = {}
    for node, name in zip(nodes, _names(nodes), strict=True):
        strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        for _ in range(2):  # the first one may have to wait for a worker
            before = time.time()
            try:
                there = ray.get(read.options(scheduling_strategy=strategy).remote(), timeout=30)
            except Exception:  # died since it answered; Tune will notice
                break
            after = time.time()
            skews[name] = (there - (before + after) / 2, (after - before) / 2)
    return skews


def read_clock() -> float:
    """Seconds since 1970 as the node that runs this has them."""
    return time.time()


def _judge_clocks(skews: Mapping[str, tuple[float, float]]) -> Finding:
    sure = {name: max(0.0, abs(skew) - doubt) for name, (skew, doubt) in skews.items()}
    worst = max(sure, key=lambda name: sure[name], default="")
    if not worst or sure[worst] < _SKEW_WARNING:
        return Finding("clocks", State.OK, f"the nodes' agree to {max(0.01, sure.get(worst, 0.0)):.2f} s")
    state = State.PROBLEM if sure[worst] >= _SKEW_PROBLEM else State.WARNING
    return Finding("clocks", state, f"that of {worst} is {sure[worst]:.0f} s off", "run chrony or another NTP there")


def connection_error(error: BaseException) -> Finding:
    """Why ``ray.init`` did not connect."""
    text = str(error).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if "ersion mismatch" in text:
        detail = " ".join(lines[:5])
        return Finding("Ray versions", State.PROBLEM, detail, "use the cluster's versions here, or its image")
    if "uthentication" in text or "nauthorized" in text or "token" in text.lower():
        mend = "set RAY_AUTH_TOKEN, or RAY_AUTH_TOKEN_PATH, to the token that the cluster was started with"
        return Finding("Ray", State.PROBLEM, f"the cluster refuses us: {first_line(error)}", mend)
    mend = "start the cluster (ray start --head), or mend the address: host:6379"
    return Finding("Ray", State.PROBLEM, f"the cluster does not answer: {first_line(error)}", mend)
