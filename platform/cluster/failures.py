"""Why a job failed, in one line, from its log and from what Ray says about it."""

import re
from typing import Any


def failure_cause(job: Any, log: str) -> str:
    """Why a job failed, in one line: its command's own error message if there is one."""
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    messages = [line for line in lines if line.startswith("spin-rl: ")]
    if messages:
        return messages[-1].removeprefix("spin-rl: ")
    message = str(job.message or "").strip()
    if str(job.error_type or "").endswith("RUNTIME_ENV_SETUP_FAILURE") or "runtime_env" in message[:200].lower():
        return environment_error(message)
    if job.driver_exit_code is None and message:
        return message.splitlines()[0]
    last = lines[-1] if lines else f"exit code {job.driver_exit_code}"
    if "No module named" in last:
        return (
            f"{last}: the 'python' that the cluster's nodes find on their PATH lacks what requirements.txt names; run "
            "them from the image, or activate the environment before 'ray start'."
        )
    return last


def environment_error(message: str) -> str:
    """Why a node could not create a job's environment: pip's own reason if it gave one."""
    if re.search(r"NewConnectionError|Connection refused|ConnectTimeout|Temporary failure|Max retries", message):
        return (
            "a node cannot reach the package index that pip is set to; fix PIP_INDEX_URL or the network there, or "
            "leave out --pip and put the packages into the image."
        )
    if unknown := re.search(r"requirement (\S+) \(from versions: none\)", message):
        return (
            f"the package index that pip is set to on a node has no {unknown[1]}, or does not answer; correct --pip, "
            "or PIP_INDEX_URL there."
        )
    errors = re.findall(r"^\s*(ERROR: .+)$", message, re.MULTILINE)
    if errors:
        return f"pip failed on a node ({errors[-1]}); correct --pip."
    return (
        f"a node could not create the job's environment ({message.splitlines()[-1] if message else 'no reason given'})."
    )
