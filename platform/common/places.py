"""Locations: a folder of this machine, any fsspec URL, a Ray cluster's job server."""

from pathlib import Path


def is_remote(location: str) -> bool:
    """Whether ``location`` is an fsspec URL such as ``s3://bucket/folder`` rather than a local folder."""
    return "://" in location and not location.startswith("file://")


def is_absolute(location: str) -> bool:
    """Whether ``location`` means the same in every working directory."""
    return is_remote(location) or Path(location.removeprefix("file://")).is_absolute()


def is_job_server(address: str) -> bool:
    """Whether ``address`` belongs to a Ray cluster's job server (HTTP) rather than to ``ray.init``."""
    return address.startswith(("http://", "https://"))
