"""The settings of what starts the trials of a sweep: `hydra/launcher=NAME`, in configs/hydra/launcher.

A stranger's file may hold them, so none of them is code: text goes into lines of sbatch, and is one plain word.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field, ValidationError

from rlhf_cli.errors import UserError
from rlhf_cli.settings import Settings

Word = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.,:/=+@&|!*-]+$")]


class Launcher(Settings):
    """Processes of this machine, started by the sweep itself."""

    package: ClassVar[str | None] = None
    """The Python package that it needs."""


class Joblib(Launcher):
    """Processes of this machine, started by joblib's pool of workers."""

    package = "joblib"


class Ray(Launcher):
    """Tasks of a Ray cluster."""

    package = "ray"
    address: Word | None
    """Address of a cluster, as ray.init takes it; null: RAY_ADDRESS, or one on this machine for the sweep alone."""
    num_cpus: float = Field(ge=0)
    """CPU cores that a trial reserves, which also are its threads."""
    num_gpus: float = Field(ge=0)
    """GPUs that a trial reserves."""
    max_retries: int = Field(ge=-1)
    """Number of times that a trial whose machine was lost goes on elsewhere; -1: any."""


class Slurm(Launcher):
    """Jobs of Slurm, by submitit."""

    package = "submitit"
    cluster: Literal["slurm", "local"]
    """local: processes of this machine, to try it out."""
    partition: Word | None
    account: Word | None
    qos: Word | None
    constraint: Word | None
    gres: Word | None
    """As sbatch has them."""
    cpus_per_task: int = Field(ge=1)
    """CPU cores of a trial."""
    gpus_per_node: int = Field(ge=0)
    """GPUs of a trial."""
    mem_gb: float | None = Field(gt=0)
    """Memory of a trial in GB; null: what the cluster gives."""
    timeout_min: int = Field(ge=1)
    """Minutes of one job."""
    signal_delay_s: int = Field(ge=1)
    """Seconds before that at which the trial saves and is put into the queue again."""
    max_num_timeout: int = Field(ge=0)
    """Number of times that a trial may be put into the queue again."""


LAUNCHERS: Final[Mapping[str, type[Launcher]]] = {
    "processes": Launcher, "joblib": Joblib, "ray": Ray, "slurm": Slurm,
}  # fmt: skip


def read_launcher(name: str, settings: Mapping[str, Any]) -> Launcher | None:
    """The settings of a launcher of ours; None of one of hydra's, which are those with a `_target_`.

    Raises UserError where they are wrong, or a package is not installed.
    """
    kind = LAUNCHERS.get(name)
    if kind is None or "_target_" in settings:
        return None
    try:
        launcher = kind.model_validate(dict(settings))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, ("hydra.launcher", *first["loc"])))
        fix = f"settings of hydra/launcher={name}: {', '.join(kind.model_fields)}"
        raise UserError(f"{key}: {first['msg']}", fix=fix) from error
    if kind.package is not None and find_spec(kind.package) is None:
        what, fix = f"{kind.package} is not installed", f"pip install 'rlhf-cli[{name}]'"
        raise UserError(what, where="hydra/launcher", fix=fix)
    return launcher
