"""TensorFlow Serving's ModelServerConfig as declared models."""

from __future__ import annotations

from typing import Literal

from tfserve.errors import Invalid
from tfserve.ipc.messages import MAX_SERVED_VERSIONS, DeclaredModel, NewestVersions
from tfserve.web.api.protos import tfserving_pb2 as v1
from tfserve.web.api.workspace.names import new_workspace_name

PLATFORM = "tensorflow"
MAX_MODELS = 1000

Policy = Literal["latest", "all"] | list[int] | NewestVersions


def declared(config: v1.ModelServerConfig) -> dict[str, DeclaredModel]:
    """The models of a configuration, by name. Raises `Invalid`."""
    if config.WhichOneof("config") != "model_config_list":
        raise Invalid(
            "Expected config.model_config_list with all models to serve; custom_model_config is not supported."
        )
    models: dict[str, DeclaredModel] = {}
    if len(config.model_config_list.config) > MAX_MODELS:
        raise Invalid(f"Expected at most {MAX_MODELS} models, got {len(config.model_config_list.config)}.")
    for each in config.model_config_list.config:
        name = new_workspace_name(each.name)
        if name in models:
            raise Invalid(f"Model {name!r} is listed twice. Each name may be used once.")
        models[name] = _model(name, each)
    return models


def _model(name: str, config: v1.ModelConfig) -> DeclaredModel:
    if not config.base_path:
        raise Invalid(f"Model {name!r} has no base_path. Set it to the folder with its numbered versions.")
    if config.model_platform not in ("", PLATFORM):
        raise Invalid(f"Model {name!r}: expected model_platform {PLATFORM!r}, got {config.model_platform[:80]!r}.")
    versions, labels = _policy(name, config.model_version_policy), dict(config.version_labels)
    if negative := [number for number in (*labels.values(), *_numbers(versions)) if number < 0]:
        raise Invalid(f"Model {name!r}: expected version numbers of at least 0, got {negative[0]}.")
    return DeclaredModel(path=config.base_path, versions=versions, labels=labels)


def _policy(name: str, policy: v1.FileSystemStoragePathSourceConfig.ServableVersionPolicy) -> Policy:
    match policy.WhichOneof("policy_choice"):
        case "all":
            return "all"
        case "specific":
            return list(policy.specific.versions)
        case "latest" if policy.latest.num_versions > 1:
            if policy.latest.num_versions > MAX_SERVED_VERSIONS:
                raise Invalid(f"Model {name!r}: expected num_versions of at most {MAX_SERVED_VERSIONS}.")
            return NewestVersions(latest=policy.latest.num_versions)
    return "latest"


def _numbers(policy: Policy) -> list[int]:
    return policy if isinstance(policy, list) else []
