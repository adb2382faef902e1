"""Checks of a cluster's nodes, from inside: shared storage, clocks, versions, GPUs, free space.

A task runs on every node. The driver writes a file to each place, every node reads it and writes one of its own, and
the driver reads those: a place where all files are seen is shared.
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

import fsspec
import ray
from ray.autoscaler.sdk import request_resources
from ray.exceptions import GetTimeoutError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from spin_rl.platform.cluster.client import judge_resources
from spin_rl.platform.common.findings import Finding, State
from spin_rl.platform.common.pins import PINS
from spin_rl.platform.common.places import is_absolute, is_remote
from spin_rl.platform.doctor.clocks import clock_offsets, judge_clocks
from spin_rl.platform.doctor.machine import check_versions
from spin_rl.platform.doctor.storage import judge_space, why_not_written

_ANSWER = 120.0  # seconds for a node to start a worker and run its checks
_SCALING = 180.0  # seconds for a first node with CPUs
_PATIENCE = 5.0  # seconds for a network file system to show what another node wrote
_GIB = 2**30
_OWN = "Ray's own files"

Places = Mapping[str, str]
"""Location by the option that names it (``storage``, ``data``)."""


@dataclass(frozen=True)
class NodeReport:
    """Results of the checks on one node."""

    name: str
    promised_gpus: float
    gpus: int
    versions: Finding
    missing: tuple[str, ...] = ()  # places where the driver's file is not visible
    failed: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # (text, fix) by place that is not writable
    free: Mapping[str, float] = field(default_factory=dict)  # GiB by place, and of Ray's own files


def check_nodes(places: Places) -> list[Finding]:
    """Findings about the nodes of the cluster that Ray is connected to; each place is checked from all of them."""
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
    findings += [Finding(subject, State.PROBLEM, text, fix) for subject, (text, fix) in failed.items()]
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
    findings.append(judge_clocks(clock_offsets({report.name: node["NodeID"] for node, report in reports})))
    return findings


def _wait_for_cpus() -> None:
    """Give a cluster that autoscales, or has just been started, time to get its first node with CPUs."""
    if _has_cpus():
        return
    request_resources(num_cpus=1)
    until = time.monotonic() + _SCALING
    while not _has_cpus() and time.monotonic() < until:
        time.sleep(1.0)
    request_resources(num_cpus=0)  # later work requests its own resources


def _has_cpus() -> bool:
    return bool(ray.cluster_resources().get("CPU", 0.0) >= 1)


def _ask_nodes(
    nodes: Sequence[Mapping[str, Any]], places: Places, probe: str
) -> tuple[list[tuple[Mapping[str, Any], NodeReport]], list[Finding]]:
    """Each node with its report, and findings about those that gave none."""
    check = ray.remote(num_cpus=0, max_retries=0)(check_node)
    names = _names(nodes)
    asked = [
        check.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
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
            silent.append(Finding("node", State.PROBLEM, text, "check its memory and Ray's logs there, or stop it"))
        except Exception as error:  # it died, or its Python cannot import what this one can
            text = f"{name} cannot run a task: {str(error).strip().splitlines()[-1]}"
            silent.append(Finding("node", State.PROBLEM, text, "run it from the image, or install requirements.txt"))
    return reports, silent


def check_node(name: str, node_id: str, promised_gpus: float, places: dict[str, str], probe: str) -> NodeReport:
    """The checks of one node, run on that node."""
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
    """GPUs that torch can use on this node, regardless of what Ray shows this task."""
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    command = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=90, env=environment)
    return int(answer.stdout.strip() or 0)


def _names(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The nodes' addresses; with the start of their ids if several share one."""
    addresses = [node["NodeManagerAddress"] for node in nodes]
    return [
        address if addresses.count(address) == 1 else f"{address}/{node['NodeID'][:6]}"
        for node, address in zip(nodes, addresses, strict=True)
    ]


def _leave_files(places: Places, probe: str, name: str) -> dict[str, tuple[str, str]]:
    """Write a file ``name`` into the probe's folder in every place; (text, fix) of each failure, by place."""
    failed = {}
    for subject, place in places.items():
        try:
            filesystem, folder = fsspec.core.url_to_fs(place)
            filesystem.makedirs(f"{folder}/{probe}", exist_ok=True)
            filesystem.pipe_file(f"{folder}/{probe}/{name}", name.encode())
        except Exception as error:  # each file system has its own error types
            failed[subject] = why_not_written(place, error, f"--{subject}")
    return failed


def _wait_for(place: str, probe: str, names: Sequence[str]) -> set[str]:
    """Which of the files ``names`` can be read, after giving them a moment to appear."""
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
    for place in places.values():
        with suppress(Exception):  # a leftover empty folder is harmless
            filesystem, folder = fsspec.core.url_to_fs(place)
            filesystem.rm(f"{folder}/{probe}", recursive=True)


def _judge_place(
    subject: str, place: str, reports: list[tuple[Mapping[str, Any], NodeReport]], seen: set[str]
) -> Finding:
    for node, report in reports:
        if subject in report.failed:
            text, fix = report.failed[subject]
            return Finding(subject, State.PROBLEM, f"on {report.name}, {text}", fix)
        if subject in report.missing or node["NodeID"] not in seen:
            text = f"{place} is not shared: {report.name} has a folder of its own there, or none"
            fix = f"mount the same folder on every node, or name one that is with --{subject}"
            return Finding(subject, State.PROBLEM, text, fix)
    whom = "the node" if len(reports) == 1 else f"all {len(reports)} nodes"
    return Finding(subject, State.OK, f"{place} can be written by {whom}, and what one writes the others see")


def _judge_node(report: NodeReport) -> list[Finding]:
    """Problems and warnings of a single node."""
    subject = f"node {report.name}"
    findings = []
    if report.versions.state is not State.OK:
        fix = "run it from the image, or install requirements.txt there"
        findings.append(Finding(subject, report.versions.state, report.versions.text, fix))
    if report.gpus < report.promised_gpus:
        text = f"promises {report.promised_gpus:g} GPUs, torch can use {report.gpus} there"
        fix = "fix its driver, container runtime or torch, or start it with the right --num-gpus"
        findings.append(Finding(subject, State.PROBLEM, text, fix))
    for place, free in report.free.items():
        finding = judge_space(subject, place, free, "ray start --temp-dir" if place == _OWN else f"--{place}")
        if finding.state is not State.OK:
            findings.append(finding)
    return findings
