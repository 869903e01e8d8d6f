"""Valid workspace names, under the name by which the APIs import them."""

from tfserve.workspace_names import new_workspace_name, workspace_name

__all__ = ["new_workspace_name", "workspace_name"]
