"""The resources of a sweep's trials: whether the cluster has them, and how many trials it has room for."""

from dataclasses import dataclass

import ray

from spin_rl.errors import UserError


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes of the cluster."""

    cpus: int = 1  # also the threads that it computes with
    gpus: float = 0  # a fraction where several trials share one

    def check(self) -> None:
        """UserError if no node of the cluster has room for a trial. Ray must be up."""
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        for name, wanted in (("CPU", float(self.cpus)), ("GPU", self.gpus)):
            most = max((node.get(name, 0.0) for node in nodes), default=0.0)
            if wanted > most:
                raise UserError(
                    f"A trial asks for {wanted:g} {name}, the largest node of the cluster has {most:g}: ask for less "
                    "or add nodes."
                )
        if not any(node.get("CPU", 0.0) >= self.cpus and node.get("GPU", 0.0) >= self.gpus for node in nodes):
            raise UserError(
                f"A trial asks for {self.cpus} CPU and {self.gpus:g} GPU, no node of the cluster has both: "
                "ask for less."
            )

    def at_once(self) -> int:
        """How many trials the whole cluster has room for, at least 1. Ray must be up."""
        total = ray.cluster_resources()
        count = total.get("CPU", 0) // self.cpus
        if self.gpus:
            count = min(count, total.get("GPU", 0) // self.gpus)
        return max(1, int(count))
