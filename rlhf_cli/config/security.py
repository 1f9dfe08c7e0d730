"""What a config file may not say: it is data, perhaps a stranger's, and must run no code and copy no secret.

We never call hydra's `instantiate` on a setting, but hydra itself instantiates launchers, sweepers, callbacks and log
handlers. What a file says of those is refused before hydra sees it, interpolations that could make it up included.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import OmegaConf
from omegaconf.resolvers import oc

from rlhf_cli.errors import UserError

_RUNS_CODE = {"_target_", "()", "class"}
_MAKES_MAPPINGS = re.compile(r"_target_|\$\{\s*oc\.(create|decode)")
_HYDRA = {  # the parts of `hydra` a file may speak of, and the keys in them where not all may be set
    "run": {"dir"},
    "sweep": {"dir", "subdir"},
    "sweeper": {"params"},
    "job": {"name"},
    "launcher": None,
    "mode": None,
    "verbose": None,
}
_INSTANTIATED = ("launcher", "sweeper")
_SECRET = re.compile("TOKEN|KEY|SECRET|PASSWORD", re.IGNORECASE)


def forbidden(body: Mapping[str, Any]) -> str | None:
    """The dotted name of the first thing in a file's body that could run code; None if there is none."""
    return next((key for found in (_anywhere(body, ""), _of_hydra(body.get("hydra", {}))) for key in found), None)


def _anywhere(value: Any, key: str) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, part in value.items():
            dotted = f"{key}.{name}" if key else str(name)
            if name in _RUNS_CODE or (key and name == "defaults"):
                yield dotted
            yield from _anywhere(part, dotted)
    elif isinstance(value, list):
        for part in value:
            yield from _anywhere(part, key)
    elif isinstance(value, str) and _MAKES_MAPPINGS.search(value):
        yield key


def _of_hydra(hydra: Any) -> Iterator[str]:
    if not isinstance(hydra, Mapping):
        yield "hydra"
        return
    for name, part in hydra.items():
        keys = _HYDRA.get(name, set())
        if keys is not None and not (isinstance(part, Mapping) and set(part) <= keys):
            yield f"hydra.{name}"
        if name in _INSTANTIATED and "${" in str(part):
            yield f"hydra.{name}"
    # a parameter of the sweeper becomes an override of every job: `hydra.callbacks...: value` would be one as well
    params = (hydra.get("sweeper") or {}).get("params") or {}
    if not isinstance(params, Mapping) or any("hydra" in str(name) for name in params):
        yield "hydra.sweeper.params"


def guard_environment() -> None:
    """Makes `${oc.env:NAME}` refuse names of secrets: what a config says is written to disk."""
    OmegaConf.register_new_resolver("oc.env", _env, replace=True)


def _env(name: str, *default: str | None) -> str | None:
    if _SECRET.search(name):
        raise UserError(f"${{oc.env:{name}}}: not allowed: it looks like a secret, and a run writes its config to disk")
    return oc.env(name, *default)
